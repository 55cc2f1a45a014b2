#include "pool-managerd/core/lease_book.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/check.h"

namespace orch::pool {

std::uint32_t Lease::held() const { return std::max(running, std::min(known(), std::max(acked_slots, unacked_slots))); }

std::uint32_t Lease::fitting(std::uint32_t room) const {
  const std::uint32_t most = std::max(room, held());
  if (known() <= most) return slots;  // whatever the table says, its holder uses no more
  return std::min(slots, std::max({most, acked_slots, unacked_slots}));
}

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
  Lease lease;
  lease.holder = holder;
  lease.secret = secret;
  lease.slots = slots;
  lease.renewal = renewal;
  lease.renewals = 1;
  lease.turn = ++last_turn_;
  const bool is_new = leases_.emplace(id, lease).second;
  ORCH_CHECK(is_new);
  dirty_ = true;
}

void LeaseBook::adopt(const LeaseTable& table, const std::vector<LeaseUse>& uses, Instant now) {
  ORCH_CHECK(leases_.empty() && issued_.is_zero());
  for (const LeaseEntry& entry : table.leases) {
    Lease lease;
    lease.holder = entry.holder;
    lease.secret = entry.secret;
    lease.slots = entry.stop ? 0 : entry.slots;
    lease.closed = lease.stop = entry.stop;
    // Who was told of how much is lost: a slot of a next owner may have been told of or not. So all count as told, and
    // nobody is told of any before there is room for it.
    lease.issued_slots = lease.acked_slots = entry.slots;
    lease.told.assume_anything();
    lease.renewals = lease.issued_renewals = lease.acked_renewals = lease.announced_renewals = entry.renewal_seq;
    lease.turn = ++last_turn_;
    lease.expires = now + ttl_;  // the worker extended it before we asked
    leases_.emplace(entry.id, lease);
  }
  issued_ = acked_ = table.version;
  adopted_ = true;
  take_uses(uses, now);
  dirty_ = true;
  set_declared(declared_);  // it may have lost slots since that table
  drop_unused();  // as behind every other change: whoever goes over the leases and closes them meets each once
}

void LeaseBook::resize(LeaseId id, std::uint32_t slots) {
  Lease& lease = at(id);
  ORCH_CHECK(!lease.closed);
  if (lease.slots == slots) return;
  if (slots > lease.slots) lease.turn = ++last_turn_;
  lease.slots = slots;
  dirty_ = true;
}

void LeaseBook::pass_over(LeaseId id, Instant until) {
  Lease& lease = at(id);
  lease.taken_back = true;
  ++lease.passes;
  lease.passed_until = until;
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
  return dirty_ || (capped_ && could_issue_more());
}

// Whoever was to grow earlier comes first.
std::vector<LeaseId> LeaseBook::open_by_turn() const {
  std::map<std::uint64_t, LeaseId> turns;
  for (const auto& [id, lease] : leases_) {
    if (!lease.closed) turns.emplace(lease.turn, id);
  }
  std::vector<LeaseId> out;
  out.reserve(turns.size());
  for (const auto& [turn, id] : turns) out.push_back(id);
  return out;
}

std::uint32_t LeaseBook::room_beside(const Lease& lease, std::uint32_t claimed) const {
  const std::uint32_t others = mutation_ == Mutation::tell_without_room ? 0 : claimed - lease.held();
  return others < declared_ ? declared_ - others : 0;
}

bool LeaseBook::could_issue_more() const {
  const std::uint32_t claimed = held();
  return std::any_of(leases_.begin(), leases_.end(), [&](const auto& entry) {
    const Lease& lease = entry.second;
    return !lease.closed && lease.fitting(room_beside(lease, claimed)) > lease.issued_slots;
  });
}

LeaseTable LeaseBook::issue(TableVersion version, Instant now) {
  ORCH_CHECK(version > issued_);
  LeaseTable table{.version = version, .ttl = ttl_, .leases = {}};
  std::uint32_t sum = 0;
  std::uint32_t claimed = held();
  capped_ = false;
  for (const LeaseId id : open_by_turn()) {
    Lease& lease = at(id);
    const std::uint32_t room = room_beside(lease, claimed);
    claimed -= lease.held();
    lease.issued_slots = lease.fitting(room);
    lease.unacked_slots = std::max(lease.unacked_slots, lease.issued_slots);
    claimed += lease.held();
    capped_ = capped_ || lease.issued_slots < lease.slots;
  }
  for (auto& [id, lease] : leases_) {
    if (lease.closed) lease.issued_slots = 0;
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
  const bool is_ack = in_flight_ && version == issued_;
  // A report from before the last ack says nothing about what may run since.
  if (!is_ack && version != acked_) return {};
  take_uses(uses, now);
  if (is_ack) {
    acked_ = version;
    in_flight_ = adopted_ = false;
    std::erase_if(left_, [&](const auto& entry) { return entry.second < acked_; });
    take_ack(now);
  }
  if (adopted_) return {};  // L8
  auto announcements = announce(is_ack, now);
  drop_unused();
  return announcements;
}

void LeaseBook::told(LeaseId id, const ToldSlots::Word& word) {
  at(id).told.tell(word);
  if (mutation_ == Mutation::take_told_for_heard) at(id).told.hear(word.link, word.number, 0);
}

std::vector<LeaseBook::Announcement> LeaseBook::heard(const Holder& holder, LinkId link, std::uint64_t number,
                                                      std::span<const LeaseUse> beyond, Instant now) {
  const std::uint32_t before = held();
  for (auto& [id, lease] : leases_) {
    if (lease.holder != holder) continue;
    const auto use =
        std::find_if(beyond.begin(), beyond.end(), [of = id](const LeaseUse& each) { return each.id == of; });
    lease.told.hear(link, number, use == beyond.end() ? 0 : use->running);
  }
  if (held() >= before || adopted_) return {};  // nothing has become free
  auto announcements = announce(false, now);
  drop_unused();
  return announcements;
}

void LeaseBook::take_uses(const std::vector<LeaseUse>& uses, Instant now) {
  running_ = running_unknown_ = 0;
  std::map<LeaseId, std::uint32_t> before;
  for (auto& [id, lease] : leases_) before[id] = std::exchange(lease.running, 0);
  for (const LeaseUse& use : uses) {
    running_ += use.running;
    const auto found = leases_.find(use.id);
    if (found == leases_.end()) {
      running_unknown_ += use.running;
      continue;
    }
    Lease& lease = found->second;
    lease.running = use.running;
    if (lease.running <= before.at(use.id)) continue;
    const std::uint32_t more = lease.running - before.at(use.id);
    lease.granted -= std::min(lease.granted, more);
    lease.gained_at = now;
    lease.taken_back = false;
    lease.passes = 0;
    lease.passed_until = Instant{};
  }
}

void LeaseBook::take_ack(Instant now) {
  for (auto& [id, lease] : leases_) {
    lease.acked_slots = lease.issued_slots;
    lease.unacked_slots = 0;
    if (lease.issued_renewals > lease.acked_renewals) {
      lease.acked_renewals = lease.issued_renewals;
      lease.acked_renewal = lease.issued_renewal;
      lease.expires = now + ttl_;  // the worker's end is earlier: it applied the table before we read its ack
    }
  }
}

// Slots that the worker admits and that are not about to go.
std::uint32_t LeaseBook::permitted(const Lease& lease) const {
  const std::uint32_t at_worker = in_flight_ ? std::min(lease.acked_slots, lease.issued_slots) : lease.acked_slots;
  return std::min(at_worker, lease.slots);
}

// L2, L6: a holder is told of more only within what the worker has acked and reports as idle. It is told of less when
// the worker admits less, not before: until then it may use what it knows of.
std::vector<LeaseBook::Announcement> LeaseBook::announce(bool is_ack, Instant now) {
  std::set<LeaseId> changed;
  for (auto& [id, lease] : leases_) {
    if (lease.closed) continue;
    if (lease.announced_slots > lease.acked_slots) {
      lease.announced_slots = lease.acked_slots;
      lease.granted = std::min(lease.granted, lease.announced_slots);
      changed.insert(id);
    }
    if (is_ack && lease.issued_renewals != lease.announced_renewals) changed.insert(id);
  }
  std::vector<Announcement> announcements;
  std::uint32_t claimed = held();
  for (const LeaseId id : open_by_turn()) {
    Lease& lease = at(id);
    const std::uint32_t slots = std::min(permitted(lease), room_beside(lease, claimed));
    const bool grew = slots > lease.announced_slots;
    if (grew) {
      claimed -= lease.held();
      lease.granted = std::min(lease.granted + slots - lease.announced_slots, slots);
      lease.announced_slots = slots;
      lease.gained_at = now;
      lease.taken_back = false;
      claimed += lease.held();
    }
    if (!grew && !changed.contains(id)) continue;
    lease.announced_renewals = lease.acked_renewals;
    announcements.push_back({.lease = id,
                             .holder = lease.holder,
                             .secret = lease.secret,
                             .slots = lease.announced_slots,
                             .renewal = lease.acked_renewal,
                             .grew = grew});
  }
  return announcements;
}

// L6: a closed lease goes only when no table that may be applied gives it a slot and the worker reports it idle.
void LeaseBook::drop_unused() {
  const auto gone = std::erase_if(leases_, [&](const auto& entry) {
    if (!entry.second.closed || entry.second.held() > 0) return false;
    left_[entry.second.holder] = issued_;
    return true;
  });
  if (gone > 0) dirty_ = true;
}

bool LeaseBook::is_over_before(const Holder& holder) const {
  if (adopted_ || running_unknown_ > 0) return false;  // under whose lease they run is not known
  const auto earlier = [&](const Holder& other) { return other.orch == holder.orch && other.boot < holder.boot; };
  return std::none_of(leases_.begin(), leases_.end(),
                      [&](const auto& entry) { return earlier(entry.second.holder); }) &&
         std::none_of(left_.begin(), left_.end(), [&](const auto& entry) { return earlier(entry.first); });
}

std::uint32_t LeaseBook::held() const {
  std::uint32_t sum = running_unknown_;
  for (const auto& [id, lease] : leases_) sum += lease.held();
  return sum;
}

std::uint32_t LeaseBook::free() const {
  const std::uint32_t used = held();
  return used < declared_ ? declared_ - used : 0;
}

std::uint32_t LeaseBook::running_outside() const {
  std::uint32_t sum = running_unknown_;
  for (const auto& [id, lease] : leases_) sum += lease.closed ? lease.running : 0;
  return sum;
}

std::uint32_t LeaseBook::wanted() const {
  std::uint32_t sum = 0;
  for (const auto& [id, lease] : leases_) sum += lease.closed ? 0 : lease.slots;
  return sum;
}

std::vector<LeaseId> LeaseBook::expired(Instant now) const {
  std::vector<LeaseId> out;
  if (mutation_ == Mutation::leases_never_expire) return out;
  for (const auto& [id, lease] : leases_) {
    if (!lease.closed && now >= lease.expires) out.push_back(id);
  }
  return out;
}

Instant LeaseBook::next_wakeup() const {
  Instant next = in_flight_ ? issued_at_ + ttl_ / 3 : Instant::never();
  if (mutation_ == Mutation::leases_never_expire) return next;
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
