// The states of a replica, for the manager that owns it and the gateways that hear of it. The edges between them are
// the manager's (pool-managerd/core/replica_state.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace orch {

enum class ReplicaState : std::uint8_t {
  starting,    // process spawned, not yet answering
  preloading,  // loading, then the self-check
  ready,
  draining,
  backoff,  // to be restarted, and its process may still be ending
  failed,   // permanent, or the breaker is open
  stopped,  // not started yet, or drained
};
inline constexpr int kReplicaStates = 7;

constexpr std::string_view to_string(ReplicaState state) {
  constexpr std::array<std::string_view, kReplicaStates> kNames{"starting", "preloading", "ready",  "draining",
                                                                "backoff",  "failed",     "stopped"};
  return kNames[static_cast<std::size_t>(state)];
}

}  // namespace orch
