// The names of the faults that are built into the gateway's core (orchestratord/core/limits.h), for people.
#pragma once

#include "orchestratord/core/limits.h"

namespace orch::sim {

constexpr const char* mutation_name(gateway::Mutation mutation) {
  using gateway::Mutation;
  switch (mutation) {
    case Mutation::none:
      return "none";
    case Mutation::skip_fence_check:
      return "skip_fence_check";
    case Mutation::double_terminal:
      return "double_terminal";
    case Mutation::forget_slot:
      return "forget_slot";
    case Mutation::deliver_after_close:
      return "deliver_after_close";
    case Mutation::dispatch_on_expired_lease:
      return "dispatch_on_expired_lease";
    case Mutation::holder_end_from_receipt:
      return "holder_end_from_receipt";
    case Mutation::lose_put_back:
      return "lose_put_back";
    case Mutation::ignore_queue_bound:
      return "ignore_queue_bound";
    case Mutation::skip_event_id:
      return "skip_event_id";
    case Mutation::retry_after_token:
      return "retry_after_token";
    case Mutation::dispatch_beyond_slots:
      return "dispatch_beyond_slots";
  }
  return "?";
}

}  // namespace orch::sim
