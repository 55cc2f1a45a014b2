#include "worker/shell/score_run.h"

#include <utility>

namespace orch::worker {

void ScoreRun::begin(const Fence& fence, const Holder& holder, ScoreRequest request) {
  const DispatchId id = request.id;
  {
    const std::lock_guard lock(mutex_);
    id_ = id;
  }
  if (const auto admitted = state_->admit(fence, holder, id, shared_from_this()); !admitted.ok()) {
    return refuse({.outcome = admitted.error(), .message = {}, .field = {}});
  }
  engine_.score(std::move(request), shared_from_this());
  bool cancel = false;
  {
    const std::lock_guard lock(mutex_);
    submitted_ = true;
    cancel = stop_why_.has_value() && !ended_;  // asked before the engine could know the job
  }
  if (cancel) engine_.cancel(id);
}

void ScoreRun::refuse(const EngineFailure& failure) {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  writer_.failed(failure);
}

void ScoreRun::stop(EngineFailure why) {
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

void ScoreRun::scored(const ScoreResult& result) {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  state_->ended(id_);  // the slot is free before the caller can know
  writer_.scored(result);
}

void ScoreRun::failed(const EngineFailure& failure) {
  std::optional<EngineFailure> why;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    if (failure.outcome == Outcome::CANCELED) why = stop_why_;
  }
  state_->ended(id_);
  writer_.failed(why.value_or(failure));
}

}  // namespace orch::worker
