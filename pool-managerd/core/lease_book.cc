#include "pool-managerd/core/lease_book.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::pool {

std::uint32_t Lease::held() const { return std::max({closed ? 0 : slots, acked_slots, unacked_slots, running}); }

Lease& LeaseBook::at(LeaseId id) {
  const auto found = leases_.find(id);
  ORCH_CHECK(found != leases_.end());
  return found->second;
}

const Lease* LeaseBook::find(LeaseId id) const {
  const auto found = leases_.find(id);
  return found == leases_.end() ? nullptr : &found->second;
}

void LeaseBook::open(LeaseId id, Holder holder, Secret secret, std::uint32_t slots, Renewal renewal) {
  ORCH_CHECK(slots <= free());
  Lease lease;
  lease.holder = holder;
  lease.secret = secret;
  lease.slots = slots;
  lease.renewal = renewal;
  lease.renewals = 1;
  const bool is_new = leases_.emplace(id, lease).second;
  ORCH_CHECK(is_new);
  dirty_ = true;
}

void LeaseBook::resize(LeaseId id, std::uint32_t slots) {
  Lease& lease = at(id);
  ORCH_CHECK(!lease.closed);
  if (lease.slots == slots) return;
  const std::uint32_t before = lease.held();
  lease.slots = slots;
  // L6: growth only into slots that nothing can be using.
  ORCH_CHECK(lease.held() <= before || held() <= declared_);
  dirty_ = true;
}

void LeaseBook::renew(LeaseId id, Renewal renewal) {
  Lease& lease = at(id);
  ORCH_CHECK(!lease.closed);
  lease.renewal = renewal;
  ++lease.renewals;
  dirty_ = true;
}

void LeaseBook::close(LeaseId id, bool stop) {
  Lease& lease = at(id);
  if (lease.closed && (lease.stop || !stop)) return;
  lease.closed = true;
  lease.stop = stop;
  lease.slots = 0;
  dirty_ = true;
  drop_unused();
}

void LeaseBook::set_declared(std::uint32_t slots) {
  declared_ = slots;
  std::uint32_t sum = wanted();
  while (sum > declared_) {
    // Idle slots go first, the largest lease first among equals.
    auto victim = leases_.end();
    auto weight = [](const Lease& lease) { return std::pair(lease.slots > lease.running, lease.slots); };
    for (auto it = leases_.begin(); it != leases_.end(); ++it) {
      if (it->second.closed || it->second.slots == 0) continue;
      if (victim == leases_.end() || weight(it->second) > weight(victim->second)) victim = it;
    }
    ORCH_CHECK(victim != leases_.end());
    --victim->second.slots;
    --sum;
    dirty_ = true;
  }
}

bool LeaseBook::wants_table(Instant now) const {
  if (in_flight_) return now >= issued_at_ + ttl_ / 3;  // an ack is due with every heartbeat
  return dirty_;
}

LeaseTable LeaseBook::issue(TableVersion version, Instant now) {
  ORCH_CHECK(version > issued_);
  LeaseTable table{.version = version, .ttl = ttl_, .leases = {}};
  std::uint32_t sum = 0;
  for (auto& [id, lease] : leases_) {
    lease.issued_slots = lease.closed ? 0 : lease.slots;
    lease.unacked_slots = std::max(lease.unacked_slots, lease.issued_slots);
    lease.issued_renewal = lease.renewal;
    lease.issued_renewals = lease.renewals;
    sum += lease.issued_slots;
    if (lease.closed && !lease.stop) continue;
    table.leases.push_back({.id = id,
                            .holder = lease.holder,
                            .slots = lease.issued_slots,
                            .secret = lease.secret,
                            .renewal_seq = lease.renewals,
                            .stop = lease.stop});
  }
  ORCH_CHECK(sum <= declared_);  // invariant: the sum of slots in a table <= declared at issue
  issued_ = version;
  issued_at_ = now;
  in_flight_ = true;
  dirty_ = false;
  return table;
}

void LeaseBook::connection_lost() {
  in_flight_ = false;
  dirty_ = true;
}

std::vector<LeaseBook::Announcement> LeaseBook::on_report(TableVersion version, const std::vector<LeaseUse>& uses,
                                                          Instant now) {
  std::vector<Announcement> announcements;
  const bool is_ack = in_flight_ && version == issued_;
  // A report from before the last ack says nothing about what may run since.
  if (!is_ack && version != acked_) return announcements;
  running_ = 0;
  for (auto& [id, lease] : leases_) lease.running = 0;
  for (const LeaseUse& use : uses) {
    running_ += use.running;
    if (const auto found = leases_.find(use.id); found != leases_.end()) found->second.running = use.running;
  }
  if (is_ack) {
    acked_ = version;
    in_flight_ = false;
    for (auto& [id, lease] : leases_) {
      lease.acked_slots = lease.issued_slots;
      lease.unacked_slots = 0;
      if (lease.issued_renewals > lease.acked_renewals) {
        lease.acked_renewals = lease.issued_renewals;
        lease.expires = now + ttl_;  // the worker's end is earlier: it applied the table before we read its ack
      }
      const std::uint32_t slots = std::min(lease.issued_slots, lease.slots);
      if (lease.closed || (slots == lease.announced_slots && lease.issued_renewals == lease.announced_renewals))
        continue;
      lease.announced_slots = slots;
      lease.announced_renewals = lease.issued_renewals;
      announcements.push_back({.lease = id,
                               .holder = lease.holder,
                               .secret = lease.secret,
                               .slots = slots,
                               .renewal = lease.issued_renewal});
    }
  }
  drop_unused();
  return announcements;
}

// L6: a closed lease goes only when no table that may be applied gives it a slot and the worker reports it idle.
void LeaseBook::drop_unused() {
  const auto gone =
      std::erase_if(leases_, [](const auto& entry) { return entry.second.closed && entry.second.held() == 0; });
  if (gone > 0) dirty_ = true;
}

std::uint32_t LeaseBook::held() const {
  std::uint32_t sum = 0;
  for (const auto& [id, lease] : leases_) sum += lease.held();
  return sum;
}

std::uint32_t LeaseBook::free() const {
  const std::uint32_t used = held();
  return used < declared_ ? declared_ - used : 0;
}

std::uint32_t LeaseBook::wanted() const {
  std::uint32_t sum = 0;
  for (const auto& [id, lease] : leases_) sum += lease.closed ? 0 : lease.slots;
  return sum;
}

std::vector<LeaseId> LeaseBook::expired(Instant now) const {
  std::vector<LeaseId> out;
  for (const auto& [id, lease] : leases_) {
    if (!lease.closed && now >= lease.expires) out.push_back(id);
  }
  return out;
}

Instant LeaseBook::next_wakeup() const {
  Instant next = in_flight_ ? issued_at_ + ttl_ / 3 : Instant::never();
  for (const auto& [id, lease] : leases_) {
    if (!lease.closed) next = std::min(next, lease.expires);
  }
  return next;
}

void LeaseBook::check_invariants() const {
  ORCH_CHECK(wanted() <= declared_);
  for (const auto& [id, lease] : leases_) {
    ORCH_CHECK(!lease.stop || lease.closed);
    ORCH_CHECK(!lease.closed || lease.slots == 0);
    ORCH_CHECK(lease.acked_renewals <= lease.issued_renewals && lease.issued_renewals <= lease.renewals);
    ORCH_CHECK(lease.announced_renewals <= lease.acked_renewals);
    // What a holder was told never exceeds what some table that the worker may have applied gives.
    ORCH_CHECK(lease.closed || lease.announced_slots <= std::max(lease.acked_slots, lease.unacked_slots));
  }
}

}  // namespace orch::pool
