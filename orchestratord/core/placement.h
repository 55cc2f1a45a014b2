// Chooses the lease a job is dispatched under, and says why the others were not (ORCH-3011, OC-CORE-1012). Pure
// function of the fleet and the leases; the same input gives the same answer in every run.
//
// Filter: live lease with a free slot on a READY replica of the lease's own incarnation, model and digest, GPU when
// asked for, numeric class when strict, context large enough. Choice: most free slots, then manager and older lease.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "orchestratord/core/fleet.h"
#include "orchestratord/core/lease_table.h"

namespace orch::gateway {

enum class Verdict : std::uint8_t {
  chosen,
  feasible,
  no_live_lease,
  no_free_slot,
  paused,
  not_ready,
  other_incarnation,
  context_too_small
};
const char* verdict_name(Verdict verdict);

struct PlacementCandidate {
  std::string replica_id;
  Verdict verdict = Verdict::feasible;
  std::uint32_t free_slots = 0;
};

struct PlacementDecision {
  std::optional<LeaseKey> lease;
  std::vector<PlacementCandidate>
      candidates;                // at most placement_candidates_max; replicas of other models are not named
  std::uint32_t considered = 0;  // all of the model, named or not
};

// `tokens_bound`: prompt and completion; 0: not known, any context will do and the worker decides.
PlacementDecision place(const Lane& lane, std::uint64_t tokens_bound, const Fleet& fleet, const LeaseTable& leases,
                        Instant now, const Config& config);

}  // namespace orch::gateway
