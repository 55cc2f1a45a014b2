#include "orchestratord/core/lease_table.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::gateway {

bool LeaseTable::apply(const LeaseKey& key, const LeaseGranted& grant, const std::string& endpoint, Instant sent_at,
                       Instant now) {
  if (grant.ttl <= Duration{}) return false;
  const Instant counted_from = mutation_ == Mutation::holder_end_from_receipt ? now : sent_at;
  // L4: a tenth is left for clocks that run apart and for the way of the dispatch. Division first: ttl is the peer's
  // number.
  const Instant end = counted_from + (grant.ttl - grant.ttl / 10);
  const auto known = leases_.find(key);
  if (known == leases_.end()) {
    if (end <= now || leases_.size() >= limits_.leases_max) return false;
    HeldLease lease;
    lease.replica = {key.manager, grant.replica_id};
    lease.inc = grant.inc;
    lease.endpoint = endpoint;
    lease.slots = grant.slots;
    lease.secret = grant.secret;
    lease.end = end;
    lease.ttl = grant.ttl;
    lease.counted_from = counted_from;
    leases_.emplace(key, std::move(lease));
    ++version_;
    ttl_ = grant.ttl;
    return true;
  }
  HeldLease& lease = known->second;
  // A lease id never changes its incarnation or replica, and a closed one never opens again.
  if (lease.closed || lease.inc != grant.inc || lease.replica.replica_id != grant.replica_id) return false;
  if (lease.secret != grant.secret) return false;
  if (counted_from < lease.counted_from) return false;  // older than what is known; its size is too
  lease.slots = grant.slots;
  if (counted_from > lease.counted_from) {
    lease.counted_from = counted_from;
    lease.end = std::max(lease.end, end);
    lease.ttl = grant.ttl;
    lease.stale = false;
    ttl_ = grant.ttl;
  }
  return true;
}

void LeaseTable::shrink(const LeaseKey& key, std::uint32_t slots) {
  if (HeldLease* lease = get(key)) lease->slots = std::min(lease->slots, slots);
}

void LeaseTable::close(const LeaseKey& key) {
  if (HeldLease* lease = get(key)) lease->closed = true;
}

void LeaseTable::close_of_replica(const ReplicaKey& replica, Incarnation older_than) {
  for (auto& [key, lease] : leases_) {
    if (lease.replica == replica && lease.inc < older_than) lease.closed = true;
  }
}

void LeaseTable::take_slot(const LeaseKey& key, std::uint64_t pages) {
  HeldLease* lease = get(key);
  ORCH_CHECK(lease != nullptr);
  ++lease->in_use;
  lease->pages.sent(pages);
}

void LeaseTable::return_slot(const LeaseKey& key, std::uint64_t pages, std::uint64_t admitted_at) {
  HeldLease* lease = get(key);
  if (lease == nullptr) return;
  ORCH_CHECK(lease->in_use > 0);
  if (mutation_ != Mutation::forget_slot) --lease->in_use;
  lease->pages.ended(pages, admitted_at);
}

void LeaseTable::admitted(const LeaseKey& key, std::uint64_t pages, std::uint64_t kv_version) {
  if (HeldLease* lease = get(key)) lease->pages.admitted(pages, kv_version);
}

void LeaseTable::started(const LeaseKey& key) {
  if (HeldLease* lease = get(key)) lease->busy_streak = 0;
}

void LeaseTable::suspect(const LeaseKey& key, Instant now) {
  if (HeldLease* lease = get(key)) lease->not_before = std::max(lease->not_before, now + limits_.broken_pause);
}

void LeaseTable::pause(const LeaseKey& key, Instant now) {
  HeldLease* lease = get(key);
  if (lease == nullptr) return;
  Duration wait = limits_.busy_pause_min;
  for (std::uint32_t i = 0; i < lease->busy_streak && wait < limits_.busy_pause_max; ++i) wait = wait * 2;
  lease->not_before = now + std::min(wait, limits_.busy_pause_max);
  lease->busy_streak = std::min<std::uint32_t>(lease->busy_streak + 1, 32);
}

void LeaseTable::busy(const LeaseKey& key, Instant now) {
  pause(key, now);
  HeldLease* lease = get(key);
  if (lease == nullptr || lease->busy_streak < limits_.busy_in_a_row_max) return;
  lease->slots = std::min(lease->slots, lease->in_use);
}

void LeaseTable::mark_stale(const LeaseKey& key) {
  if (HeldLease* lease = get(key)) lease->stale = true;
}

void LeaseTable::remove_dead(Instant now) {
  const auto gone =
      std::erase_if(leases_, [&](const auto& entry) { return entry.second.in_use == 0 && entry.second.end <= now; });
  if (gone > 0) ++version_;
}

void LeaseTable::remove(const LeaseKey& key) {
  leases_.erase(key);
  ++version_;
}

const HeldLease* LeaseTable::find(const LeaseKey& key) const {
  const auto it = leases_.find(key);
  return it == leases_.end() ? nullptr : &it->second;
}

HeldLease* LeaseTable::get(const LeaseKey& key) {
  const auto it = leases_.find(key);
  return it == leases_.end() ? nullptr : &it->second;
}

std::vector<LeaseId> LeaseTable::renewable(ManagerId manager) const {
  std::vector<LeaseId> out;
  for (auto it = leases_.lower_bound({manager, {}}); it != leases_.end() && it->first.manager == manager; ++it) {
    if (!it->second.closed) out.push_back(it->first.lease);
  }
  return out;
}

Instant LeaseTable::next_change(Instant now, bool jobs_wait) const {
  Instant next = Instant::never();
  for (const auto& [key, lease] : leases_) {
    if (lease.in_use == 0) next = std::min(next, lease.end);
    if (jobs_wait && lease.live(now) && lease.not_before > now) next = std::min(next, lease.not_before);
  }
  return next;
}

}  // namespace orch::gateway
