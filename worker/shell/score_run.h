// Purpose: one accepted request for scores between the engine and its caller: it holds a slot of its lease until the
// engine has ended it, and its caller gets exactly one answer. Threads: any; one mutex, never held while the engine,
// the state or the writer is called. Ownership: shared by the call, the state and the engine.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "worker/shell/worker_state.h"

namespace orch::worker {

// The caller's side; one of the two is called, once, and must not be touched afterwards.
class ScoreWriter {
 public:
  virtual ~ScoreWriter() = default;
  virtual void scored(const ScoreResult& result) = 0;
  virtual void failed(const EngineFailure& failure) = 0;
};

class ScoreRun final : public ScoreSink, public RunningJob, public std::enable_shared_from_this<ScoreRun> {
 public:
  // `writer` must live until it was called.
  ScoreRun(std::shared_ptr<WorkerState> state, GenerationEngine& engine, ScoreWriter& writer)
      : state_(std::move(state)), engine_(engine), writer_(writer) {}

  void begin(const Fence& fence, const Holder& holder, ScoreRequest request);
  void refuse(const EngineFailure& failure);

  void stop(EngineFailure why) override;
  void scored(const ScoreResult& result) override;
  void failed(const EngineFailure& failure) override;

 private:
  const std::shared_ptr<WorkerState> state_;
  GenerationEngine& engine_;
  ScoreWriter& writer_;

  std::mutex mutex_;
  DispatchId id_;
  std::optional<EngineFailure> stop_why_;  // the first reason to stop
  bool submitted_ = false;                 // the engine knows it: a cancel has an effect
  bool ended_ = false;
};

}  // namespace orch::worker
