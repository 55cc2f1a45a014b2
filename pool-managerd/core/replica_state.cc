#include "pool-managerd/core/replica_state.h"

#include "common/base/check.h"

namespace orch::pool {

std::string_view to_string(FailureClass failure) {
  switch (failure) {
    case FailureClass::none:
      return "";
    case FailureClass::spawn_failed:
      return "spawn_failed";
    case FailureClass::exited:
      return "exited";
    case FailureClass::killed_by_signal:
      return "killed_by_signal";
    case FailureClass::device_lost:
      return "device_lost";
    case FailureClass::out_of_memory:
      return "out_of_memory";
    case FailureClass::start_timeout:
      return "start_timeout";
    case FailureClass::load_failed:
      return "load_failed";
    case FailureClass::load_timeout:
      return "load_timeout";
    case FailureClass::identity_mismatch:
      return "identity_mismatch";
    case FailureClass::digest_mismatch:
      return "digest_mismatch";
    case FailureClass::decode_failed:
      return "decode_failed";
    case FailureClass::cancel_kept_slot:
      return "cancel_kept_slot";
    case FailureClass::counters_stuck:
      return "counters_stuck";
    case FailureClass::self_check_timeout:
      return "self_check_timeout";
    case FailureClass::silent:
      return "silent";
    case FailureClass::stalled:
      return "stalled";
    case FailureClass::not_adopted:
      return "not_adopted";
    case FailureClass::set_mismatch:
      return "set_mismatch";
    case FailureClass::not_replaced:
      return "not_replaced";
  }
  ORCH_CHECK(false);
}

std::string_view to_string(DrainReason reason) {
  switch (reason) {
    case DrainReason::request:
      return "request";
    case DrainReason::rollout:
      return "rollout";
    case DrainReason::shutdown:
      return "shutdown";
  }
  ORCH_CHECK(false);
}

FailureClass class_of_exit(int code) {
  return code == 69 ? FailureClass::device_lost : code == 71 ? FailureClass::out_of_memory : FailureClass::exited;
}

bool may_change(ReplicaState from, ReplicaState to) {
  using enum ReplicaState;
  switch (from) {
    case stopped:
      return to == starting;
    case starting:
      return to == preloading || to == draining || to == backoff || to == failed;
    case preloading:
      return to == ready || to == draining || to == backoff || to == failed;
    case ready:
      return to == draining || to == backoff || to == failed;
    case draining:
      return to == stopped;
    case backoff:
      return to == starting || to == failed || to == draining || to == stopped;
    case failed:
      return to == starting || to == draining || to == stopped;
  }
  ORCH_CHECK(false);
}

}  // namespace orch::pool
