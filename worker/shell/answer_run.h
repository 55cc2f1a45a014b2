// Purpose: one accepted dispatch with a single answer (scores, an embedding) between the engine and its caller, who
// gets exactly one call. Threads: any; see EngineJob. Ownership: shared by the call, the state and the engine.
#pragma once

#include <memory>
#include <utility>

#include "worker/shell/engine_job.h"

namespace orch::worker {

// The caller's side; one of the two is called, once, and must not be touched afterwards.
template <typename Answer>
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  virtual void answered(const Answer& answer) = 0;
  virtual void failed(const EngineFailure& failure) = 0;
};

template <typename Answer>
class AnswerRun final : public AnswerSink<Answer>,
                        public RunningJob,
                        public std::enable_shared_from_this<AnswerRun<Answer>> {
 public:
  // `writer` must live until it was called.
  AnswerRun(std::shared_ptr<WorkerState> state, GenerationEngine& engine, AnswerWriter<Answer>& writer)
      : job_(std::move(state), engine), writer_(writer) {}

  // `submit(engine, sink)` hands the request over.
  template <typename Submit>
  void begin(const Fence& fence, const Holder& holder, std::uint32_t lease_slots, const DispatchId& id, Submit submit) {
    const auto self = this->shared_from_this();
    const auto started =
        job_.start(fence, holder, lease_slots, id, self, [&](GenerationEngine& engine) { submit(engine, self); });
    if (!started.ok()) refuse(started.error());
  }
  void refuse(const EngineFailure& failure) { writer_.failed(failure); }

  void stop(EngineFailure why) override { job_.stop(std::move(why)); }
  void answered(const Answer& answer) override {
    if (job_.end(JobEnd::finished)) writer_.answered(answer);
  }
  void failed(const EngineFailure& failure) override {
    if (job_.end(JobEnd::failed)) writer_.failed(job_.reason(failure));
  }

 private:
  EngineJob job_;
  AnswerWriter<Answer>& writer_;
};

}  // namespace orch::worker
