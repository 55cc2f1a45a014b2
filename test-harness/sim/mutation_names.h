// The names of the faults that are built into the cores (orchestratord/core/limits.h, pool-managerd/core/mutation.h),
// for people.
#pragma once

#include <cstdint>

#include "orchestratord/core/limits.h"
#include "pool-managerd/core/mutation.h"

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
    case Mutation::forget_charge:
      return "forget_charge";
    case Mutation::charge_twice:
      return "charge_twice";
    case Mutation::skip_lift:
      return "skip_lift";
    case Mutation::ack_before_commit:
      return "ack_before_commit";
    case Mutation::forget_end_record:
      return "forget_end_record";
    case Mutation::repeat_token_on_resume:
      return "repeat_token_on_resume";
    case Mutation::resume_one_short:
      return "resume_one_short";
    case Mutation::forget_quota_settle:
      return "forget_quota_settle";
    case Mutation::ignore_quota:
      return "ignore_quota";
    case Mutation::forget_others_use:
      return "forget_others_use";
    case Mutation::forget_deaths:
      return "forget_deaths";
    case Mutation::forget_others_service:
      return "forget_others_service";
    case Mutation::forget_others_refusals:
      return "forget_others_refusals";
    case Mutation::skip_recovered_fence:
      return "skip_recovered_fence";
    case Mutation::confuse_starts:
      return "confuse_starts";
    case Mutation::skip_to_buffer:
      return "skip_to_buffer";
  }
  return "?";
}

constexpr const char* mutation_name(pool::Mutation mutation) {
  using pool::Mutation;
  switch (mutation) {
    case Mutation::none:
      return "none";
    case Mutation::tell_without_room:
      return "tell_without_room";
    case Mutation::take_told_for_heard:
      return "take_told_for_heard";
    case Mutation::forget_absent_holders:
      return "forget_absent_holders";
    case Mutation::leases_never_expire:
      return "leases_never_expire";
    case Mutation::store_unfinished:
      return "store_unfinished";
    case Mutation::forget_end:
      return "forget_end";
  }
  return "?";
}

// The mutants run up to this number: one that is not counted would never be tried.
template <typename Mutation>
constexpr bool counts_all(std::uint8_t count) {
  return *mutation_name(static_cast<Mutation>(count - 1)) != '?' && *mutation_name(static_cast<Mutation>(count)) == '?';
}
static_assert(counts_all<gateway::Mutation>(gateway::kMutations) && counts_all<pool::Mutation>(pool::kMutations));

}  // namespace orch::sim
