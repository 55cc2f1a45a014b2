#include "worker/lease/lease_arbiter.h"

#include <algorithm>

namespace orch::worker {
namespace {

// Compares every byte: the time taken tells nothing about where a wrong secret differs.
bool same_secret(const Secret& left, const Secret& right) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < left.size(); ++i) difference |= static_cast<unsigned>(left[i] ^ right[i]);
  return difference == 0;
}

}  // namespace

LeaseArbiter::LeaseArbiter(Options options) : options_(options) { ORCH_CHECK(options.attempts_max > 0); }

bool LeaseArbiter::bind(ManagerId manager, Incarnation inc) {
  if (bound_) return manager_ == manager && inc_ == inc;
  bound_ = true;
  manager_ = manager;
  inc_ = inc;
  return true;
}

bool LeaseArbiter::well_formed(const LeaseTable& table) const {
  if (table.leases.size() > options_.leases_max || table.ttl <= Duration{}) return false;
  std::set<LeaseId> seen;
  for (const LeaseEntry& entry : table.leases) {
    if (!seen.insert(entry.id).second) return false;
    const auto known = leases_.find(entry.id);
    if (known == leases_.end()) continue;
    // Invariant: a lease id never changes holder or secret.
    if (known->second.entry.holder != entry.holder) return false;
    if (!same_secret(known->second.entry.secret, entry.secret)) return false;
  }
  return true;
}

LeaseArbiter::Applied LeaseArbiter::apply(const LeaseTable& table, Instant now) {
  if (!bound_ || table.version <= version_) return Applied::stale;  // L2: only higher versions
  if (!well_formed(table)) return Applied::malformed;
  std::map<LeaseId, Lease> next;
  for (const LeaseEntry& entry : table.leases) {
    const auto known = leases_.find(entry.id);
    // L4: the worker's end is the instant it received the extension + TTL; without an extension the old end stays.
    const bool extended = known == leases_.end() || entry.renewal_seq > known->second.entry.renewal_seq;
    Lease lease{.entry = entry, .end = extended ? now + table.ttl : known->second.end};
    if (!extended) lease.entry.renewal_seq = known->second.entry.renewal_seq;
    next.emplace(entry.id, lease);
  }
  leases_ = std::move(next);
  version_ = table.version;
  ttl_ = table.ttl;
  for (auto& [dispatch, job] : jobs_) {
    const auto lease = leases_.find(job.lease);
    if (lease != leases_.end() && lease->second.entry.stop && !job.stop) job.stop = StopReason::revoked;
  }
  forget_idle_holders();
  return Applied::ok;
}

Status<Outcome> LeaseArbiter::admit(const Fence& fence, const Holder& holder, const DispatchId& dispatch, Instant now,
                                    std::uint32_t known_slots) {
  // L3, in order: the fence, then the pair, then room.
  if (!bound_ || draining_ || fence.manager != manager_ || fence.inc != inc_) return Err{Outcome::STALE_LEASE};
  const auto found = leases_.find(fence.lease);
  if (found == leases_.end()) return Err{Outcome::STALE_LEASE};
  const Lease& lease = found->second;
  if (!same_secret(lease.entry.secret, fence.secret) || lease.entry.holder != holder) return Err{Outcome::STALE_LEASE};
  if (now >= lease.end || lease.entry.stop) return Err{Outcome::STALE_LEASE};
  if (attempts_.contains(dispatch)) return Err{Outcome::DUPLICATE_ATTEMPT};
  const auto use = running_.find(fence.lease);
  const std::uint32_t slots = std::min(lease.entry.slots, known_slots);
  if ((use == running_.end() ? 0 : use->second) >= slots) return Err{Outcome::SLOT_BUSY};
  if (running() >= options_.slots) return Err{Outcome::SLOT_BUSY};

  jobs_.emplace(dispatch, Job{.lease = fence.lease, .holder = holder, .admitted = now, .stop = std::nullopt});
  ++running_[fence.lease];
  remember(dispatch);
  return Ok{};
}

void LeaseArbiter::remember(const DispatchId& dispatch) {
  attempts_.insert(dispatch);
  attempt_order_.push_back(dispatch);
  // A running one is put back at the end: running jobs are bounded by the slots, so this always finds an ended one as
  // long as attempts_max exceeds them.
  std::size_t tries = attempt_order_.size();
  while (attempts_.size() > options_.attempts_max && tries-- > 0) {
    const DispatchId oldest = attempt_order_.front();
    attempt_order_.pop_front();
    if (jobs_.contains(oldest)) {
      attempt_order_.push_back(oldest);
    } else {
      attempts_.erase(oldest);
    }
  }
}

void LeaseArbiter::ended(const DispatchId& dispatch, JobEnd how) {
  const auto job = jobs_.find(dispatch);
  if (job == jobs_.end()) return;
  const auto use = running_.find(job->second.lease);
  ORCH_CHECK(use != running_.end() && use->second > 0);
  if (--use->second == 0) running_.erase(use);
  ++jobs_ended_;
  if (how == JobEnd::failed && job->second.stop == StopReason::drain_over) ++jobs_cut_;
  jobs_.erase(job);
}

void LeaseArbiter::heartbeat(const Holder& holder, Instant now) {
  // Only holders that matter are remembered, so that strangers cannot fill the map.
  const bool has_lease = std::any_of(leases_.begin(), leases_.end(),
                                     [&](const auto& lease) { return lease.second.entry.holder == holder; });
  if (!has_lease && running_of(holder) == 0) return;
  Instant& last = beats_.try_emplace(holder, now).first->second;
  last = std::max(last, now);
}

void LeaseArbiter::holder_broken(const Holder& holder) {
  beats_.erase(holder);
  for (auto& [dispatch, job] : jobs_) {
    if (job.holder == holder && !job.stop) job.stop = StopReason::holder_broken;
  }
}

void LeaseArbiter::begin_drain(Instant deadline) {
  draining_ = true;
  drain_deadline_ = std::min(drain_deadline_, deadline);
}

std::optional<Duration> LeaseArbiter::drain_left(Instant now) const {
  if (!draining_) return std::nullopt;
  return std::max(drain_deadline_ - now, Duration{});
}

// L5: the dispatch itself shows that the holder lived when the job began; from then on only heartbeats count.
Instant LeaseArbiter::alive_until(const Job& job) const {
  const auto beat = beats_.find(job.holder);
  return (beat == beats_.end() ? job.admitted : std::max(job.admitted, beat->second)) + ttl_;
}

std::vector<LeaseArbiter::Stop> LeaseArbiter::jobs_to_stop(Instant now) {
  std::vector<Stop> stops;
  for (auto& [dispatch, job] : jobs_) {
    if (!job.stop && now >= alive_until(job)) job.stop = StopReason::holder_silent;
    if (!job.stop && now >= drain_deadline_) job.stop = StopReason::drain_over;
    if (!job.stop || job.named) continue;
    job.named = true;
    stops.push_back({.dispatch = dispatch, .reason = *job.stop});
  }
  return stops;
}

Instant LeaseArbiter::next_wakeup() const {
  Instant next = Instant::never();
  for (const auto& [dispatch, job] : jobs_) {
    if (job.named) continue;
    next = std::min(next, job.stop ? Instant{} : std::min(alive_until(job), drain_deadline_));
  }
  return next;
}

std::vector<LeaseUse> LeaseArbiter::uses() const {
  std::vector<LeaseUse> uses;
  uses.reserve(running_.size());
  for (const auto& [lease, count] : running_) uses.push_back({.id = lease, .running = count});
  return uses;
}

LeaseTable LeaseArbiter::table() const {
  LeaseTable out{.version = version_, .ttl = ttl_, .leases = {}};
  for (const auto& [id, lease] : leases_) out.leases.push_back(lease.entry);
  return out;
}

std::uint32_t LeaseArbiter::running_of(const Holder& holder) const {
  return static_cast<std::uint32_t>(
      std::count_if(jobs_.begin(), jobs_.end(), [&](const auto& job) { return job.second.holder == holder; }));
}

void LeaseArbiter::forget_idle_holders() {
  std::set<Holder> wanted;
  for (const auto& [id, lease] : leases_) wanted.insert(lease.entry.holder);
  for (const auto& [dispatch, job] : jobs_) wanted.insert(job.holder);
  std::erase_if(beats_, [&](const auto& beat) { return !wanted.contains(beat.first); });
}

}  // namespace orch::worker
