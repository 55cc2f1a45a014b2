#include "worker/shell/engine_job.h"

#include <utility>

namespace orch::worker {

Status<EngineFailure> EngineJob::admit(const Fence& fence, const Holder& holder, std::uint32_t lease_slots,
                                       const DispatchId& id, std::shared_ptr<RunningJob> job) {
  {
    const std::lock_guard lock(mutex_);
    id_ = id;
  }
  const auto admitted = state_->admit(fence, holder, id, lease_slots, std::move(job));
  if (admitted.ok()) return Ok{};
  const std::lock_guard lock(mutex_);
  ended_ = true;
  return Err{EngineFailure{.outcome = admitted.error(), .message = {}, .field = {}}};
}

void EngineJob::submitted() {
  bool cancel = false;
  DispatchId id;
  {
    const std::lock_guard lock(mutex_);
    submitted_ = true;
    cancel = stop_why_.has_value() && !ended_;  // asked before the engine could know the job
    id = id_;
  }
  if (cancel) engine_.cancel(id);
}

void EngineJob::stop(EngineFailure why) {
  bool cancel = false;
  DispatchId id;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    if (!stop_why_) stop_why_ = std::move(why);
    cancel = submitted_;
    id = id_;
  }
  if (cancel) engine_.cancel(id);
}

bool EngineJob::end(JobEnd how) {
  DispatchId id;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return false;
    ended_ = true;
    id = id_;
  }
  state_->ended(id, how);
  return true;
}

EngineFailure EngineJob::reason(const EngineFailure& failure) const {
  const std::lock_guard lock(mutex_);
  return failure.outcome == Outcome::CANCELED && stop_why_ ? *stop_why_ : failure;
}

}  // namespace orch::worker
