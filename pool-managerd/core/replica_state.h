// The edges between the states of a replica and the ways a worker can fail, as closed lists.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/replica_state.h"

namespace orch::pool {

using orch::kReplicaStates;
using orch::ReplicaState;
using orch::to_string;

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
  silent,        // no report for TTL (L6)
  stalled,       // running without a finished step
  not_adopted,   // a worker of an earlier boot that did not show its table
  set_mismatch,  // not of the set that the pool's other replicas make
  not_replaced,  // a reload or restart failed, and this one stays
};

enum class DrainReason : std::uint8_t { request, rollout, shutdown };

std::string_view to_string(FailureClass failure);
std::string_view to_string(DrainReason reason);

FailureClass class_of_exit(int code);

// Whether the edge exists. Every change of state is checked against it.
bool may_change(ReplicaState from, ReplicaState to);

// Exit codes of workerd and adapterd after which the same start would fail again: usage (64), a bad model file (65), a
// missing one (66). A missing device (69), memory (71) and a taken socket (74) may be different next time.
constexpr bool is_permanent_exit(int code) { return code == 64 || code == 65 || code == 66; }

}  // namespace orch::pool
