#include "orchestratord/core/placement.h"

namespace orch::gateway {
namespace {

Verdict judge(const HeldLease& lease, const ReplicaView& replica, std::uint64_t tokens_bound, Instant now,
              Mutation mutation) {
  if (replica.inc != lease.inc) return Verdict::other_incarnation;
  if (replica.state != ReplicaState::ready) return Verdict::not_ready;  // L9: a draining replica gets nothing new
  if (tokens_bound > replica.ctx_max) return Verdict::context_too_small;
  const bool ignore_end = mutation == Mutation::dispatch_on_expired_lease;
  if (lease.closed || lease.stale || (!ignore_end && !lease.live(now))) return Verdict::no_live_lease;
  if (lease.not_before > now) return Verdict::paused;
  const bool ignore_size = mutation == Mutation::dispatch_beyond_slots && lease.in_use <= lease.slots;
  if (!ignore_size && lease.in_use >= lease.slots) return Verdict::no_free_slot;
  return Verdict::feasible;
}

}  // namespace

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::chosen:
      return "chosen";
    case Verdict::feasible:
      return "feasible";
    case Verdict::no_live_lease:
      return "no_live_lease";
    case Verdict::no_free_slot:
      return "no_free_slot";
    case Verdict::paused:
      return "paused";
    case Verdict::not_ready:
      return "not_ready";
    case Verdict::other_incarnation:
      return "other_incarnation";
    case Verdict::context_too_small:
      return "context_too_small";
  }
  return "?";
}

PlacementDecision place(const Lane& lane, std::uint64_t tokens_bound, const Fleet& fleet, const LeaseTable& leases,
                        Instant now, const Config& config) {
  PlacementDecision decision;
  std::optional<std::size_t> chosen_index;
  std::uint32_t best_free = 0;
  for (const auto& [key, lease] : leases.all()) {
    const ReplicaView* replica = fleet.find(lease.replica);
    if (replica == nullptr || !serves(*replica, lane)) continue;
    ++decision.considered;
    PlacementCandidate candidate{lease.replica.replica_id, judge(lease, *replica, tokens_bound, now, config.mutation),
                                 0};
    if (lease.in_use < lease.slots) candidate.free_slots = lease.slots - lease.in_use;
    const bool better = candidate.verdict == Verdict::feasible && (!decision.lease || candidate.free_slots > best_free);
    if (better) {
      decision.lease = key;
      best_free = candidate.free_slots;
    }
    if (decision.candidates.size() < config.limits.placement_candidates_max) {
      if (better) chosen_index = decision.candidates.size();
      decision.candidates.push_back(std::move(candidate));
    } else if (better) {
      chosen_index = decision.candidates.size() - 1;  // the winner is always named
      decision.candidates.back() = std::move(candidate);
    }
  }
  if (chosen_index) decision.candidates[*chosen_index].verdict = Verdict::chosen;
  return decision;
}

}  // namespace orch::gateway
