// Purpose: what every accepted dispatch shares, whatever it asks of the engine: it holds a slot of its lease from its
// admission until the engine has ended it, and a stop, however early, cancels it once and gives the reason. Threads:
// any; one mutex, never held while the engine or the state is called. Ownership: part of the job; state and engine
// outlive it.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "worker/shell/worker_state.h"

namespace orch::worker {

class EngineJob {
 public:
  EngineJob(std::shared_ptr<WorkerState> state, GenerationEngine& engine) : state_(std::move(state)), engine_(engine) {}

  // Asks for admission of `job`, then calls submit(engine). Error: refused, nothing was submitted.
  template <typename Submit>
  Status<EngineFailure> start(const Fence& fence, const Holder& holder, std::uint32_t lease_slots, const DispatchId& id,
                              std::shared_ptr<RunningJob> job, Submit submit) {
    if (auto admitted = admit(fence, holder, lease_slots, id, std::move(job)); !admitted.ok()) return admitted;
    submit(engine_);
    submitted();
    return Ok{};
  }

  // The first reason counts.
  void stop(EngineFailure why);
  // The engine is done with it: its slot is free before anybody is told. False: it was over already.
  bool end(JobEnd how);
  // What the caller is told: the reason of a stop instead of the cancel that it caused.
  EngineFailure reason(const EngineFailure& failure) const;

 private:
  Status<EngineFailure> admit(const Fence& fence, const Holder& holder, std::uint32_t lease_slots, const DispatchId& id,
                              std::shared_ptr<RunningJob> job);
  void submitted();

  const std::shared_ptr<WorkerState> state_;
  GenerationEngine& engine_;

  mutable std::mutex mutex_;
  DispatchId id_;
  std::optional<EngineFailure> stop_why_;
  bool submitted_ = false;  // the engine knows it: a cancel has an effect
  bool ended_ = false;
};

}  // namespace orch::worker
