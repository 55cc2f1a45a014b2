// Chooses the lease a job is dispatched under, and says why the others were not (ORCH-3008, ORCH-3011, ORCH-3091,
// OC-CORE-1010 to 1016). Pure: the same input gives the same answer in every run and every process.
//
// Filter (OC-CORE-1014), then a total order (OC-CORE-1012): preferred by the request; with memory for all that the job
// is expected to need (OC-CORE-1017); earliest predicted end, in steps of a tenth; the session's own replica; most
// of the prompt computed there before (OC-CORE-1018); least loaded; most context; fastest; replica id, manager, lease.
//
// A session's own replica is the first by rendezvous hash whose load is within 1.25 of the mean (OC-CORE-1013).
// What a replica has of the prompt shortens its predicted end, unless it is more than half full and loaded beyond that.
// Complexity: O(candidates) without allocation, plus the explanation.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/fleet.h"
#include "orchestratord/core/lease_table.h"

namespace orch::gateway {

enum class Verdict : std::uint8_t {
  chosen,
  feasible,
  no_live_lease,
  no_free_slot,
  no_free_memory,  // the prompt finds no KV pages now
  paused,
  not_ready,
  other_incarnation,
  context_too_small,
  memory_too_small,  // its whole KV memory cannot hold prompt and completion
  unsuitable,        // model version, device, numeric class, pin, avoid list
  reserved,  // M6: for a suspect job, which runs alone; or it is one itself and this is not its replica; or held for
             // a job that has waited too long for memory
};
const char* verdict_name(Verdict verdict);

// What set the chosen one apart from the next best.
enum class DecidedBy : std::uint8_t {
  only_one,
  preference,
  memory,
  predicted_end,
  session,
  warm,
  load,
  context,
  speed,
  name
};
const char* decided_by_name(DecidedBy reason);

struct PlacementCandidate {
  std::string replica_id;
  Verdict verdict = Verdict::feasible;
  std::uint32_t free_slots = 0;
  Duration predicted;                                // until its end; zero: not measured
  std::optional<std::uint64_t> free_kv_tokens = {};  // nullopt: not told
  std::uint64_t cached_tokens = 0;                   // of the prompt, believed to be there
  bool session_home = false;
  bool preferred = false;
};

struct PlacementDecision {
  std::optional<LeaseKey> lease;               // nullopt: no capacity
  std::vector<PlacementCandidate> candidates;  // at most placement_candidates_max; the chosen one is always named
  std::uint32_t considered = 0;                // leases on replicas of the model, named or not
  std::uint32_t feasible = 0;
  DecidedBy decided_by = DecidedBy::only_one;
  std::uint64_t cached_tokens = 0;            // of the prompt, believed to be on the chosen one
  bool fallback = false;                      // none of the preferred was feasible
  std::optional<LeaseKey> lacks_memory = {};  // the roomiest of those with no_free_memory
};

// Measured time over predicted time per replica, moving average; 1 when nothing is known.
class ReplicaSpeeds {
 public:
  void observe(const ReplicaKey& replica, double measured_over_predicted);
  double slowness(const ReplicaKey& replica) const;
  // Grows whenever an answer changes.
  std::uint64_t version() const { return version_; }
  static constexpr std::size_t kReplicasMax = 4096;

 private:
  std::uint64_t version_ = 0;
  std::map<ReplicaKey, double> slowness_;
};

// Leases by the model of their replica, as pointers into fleet and lease table; built anew when either has changed.
class PlacementIndex {
 public:
  struct Entry {
    LeaseKey key;
    const HeldLease* lease = nullptr;
    const ReplicaView* replica = nullptr;
    std::uint64_t name_hash = 0;
    double slowness = 1;
  };
  const std::vector<Entry>& of(const std::string& model, const Fleet& fleet, const LeaseTable& leases,
                               const ReplicaSpeeds& speeds);

 private:
  std::map<std::string, std::vector<Entry>> models_;
  std::uint64_t fleet_version_ = ~0ull;
  std::uint64_t leases_version_ = ~0ull;
  std::uint64_t speeds_version_ = ~0ull;
};

// A replica that is believed to have the beginning of the prompt.
struct WarmStart {
  ReplicaKey replica;
  std::uint64_t cached_tokens = 0;
  std::array<Duration, 4> service{};  // as in PlacementInput, without computing those
};

struct PlacementInput {
  const Lane& lane;
  const std::vector<PlacementIndex::Entry>& entries;  // of the lane's model
  std::uint64_t tokens_bound = 0;                     // prompt and completion; 0: not known, any context will do
  const std::string& session;                         // empty: none
  // OC-CORE-1017: the prompt, and all that the job is expected to come to. 0: not known, any memory will do.
  std::uint64_t prompt_tokens = 0;
  std::uint64_t expected_tokens = 0;
  std::array<Duration, 4> service{};  // by the replica's batch fill, in quarters; zero: not measured
  std::span<const WarmStart> warm{};  // by replica
  Instant now;
  std::uint32_t candidates_max = 16;  // 0: no explanation is wanted
  Mutation mutation = Mutation::none;
  const std::set<ReplicaKey>* reserved = nullptr;  // M6: not for this job
  const ReplicaKey* only = nullptr;                // M6: the one for this job
  const ReplicaKey* held = nullptr;                // OC-CORE-1017: for another job, until that finds memory there
};
PlacementDecision decide(const PlacementInput& input);

}  // namespace orch::gateway
