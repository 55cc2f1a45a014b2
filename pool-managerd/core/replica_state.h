// The states of a replica, the edges between them and the ways a worker can fail, as closed lists.
#pragma once

#include <cstdint>
#include <string_view>

namespace orch::pool {

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

enum class FailureClass : std::uint8_t {
  none,
  spawn_failed,
  exited,
  killed_by_signal,
  device_lost,    // exit code 69: the device is gone or was never there
  out_of_memory,  // exit code 71
  start_timeout,
  load_failed,
  load_timeout,
  identity_mismatch,  // engine or model name
  digest_mismatch,
  decode_failed,
  cancel_kept_slot,
  counters_stuck,
  self_check_timeout,
  silent,       // no report for TTL (L6)
  stalled,      // running without a finished step
  not_adopted,  // a worker of an earlier boot that did not show its table
};

std::string_view to_string(ReplicaState state);
std::string_view to_string(FailureClass failure);

FailureClass class_of_exit(int code);

// Whether the edge exists. Every change of state is checked against it.
bool may_change(ReplicaState from, ReplicaState to);

// Exit codes of workerd and adapterd after which the same start would fail again: usage (64), a bad model file (65), a
// missing one (66). A missing device (69), memory (71) and a taken socket (74) may be different next time.
constexpr bool is_permanent_exit(int code) { return code == 64 || code == 65 || code == 66; }

}  // namespace orch::pool
