// Purpose: one accepted dispatch between the engine and its holder's stream: what the engine says goes into the job's
// outbox there, and its holder gets exactly one terminal. Threads: any. Ownership: shared by the stream, the state and
// the engine; lives on without the stream until the engine has ended the job.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/shell/engine_job.h"
#include "worker/shell/token_outbox.h"

namespace orch::worker {

// The holder's side, by the number that the job has there. False: more waits than its holder may leave unread.
class JobReader {
 public:
  virtual ~JobReader() = default;
  virtual void started(std::uint64_t job, StartedNote note) = 0;
  virtual bool prompt_scored(std::uint64_t job, PromptScores scores) = 0;
  virtual bool tokens(std::uint64_t job, TokenBatch batch) = 0;
  // `last` leaves in one reply with the terminal.
  virtual void ended(std::uint64_t job, TokenOutbox::Terminal terminal, TokenBatch last) = 0;
};

class JobStream final : public GenerationSink, public RunningJob, public std::enable_shared_from_this<JobStream> {
 public:
  JobStream(std::shared_ptr<WorkerState> state, GenerationEngine& engine, std::shared_ptr<JobReader> reader,
            std::uint64_t number)
      : job_(std::move(state), engine), reader_(std::move(reader)), number_(number) {}

  // Asks for admission and hands the job to the engine; a refusal becomes the terminal.
  void run(const Fence& fence, const Holder& holder, std::uint32_t lease_slots, GenerationRequest request);

  void stop(EngineFailure why) override { job_.stop(std::move(why)); }

  void started(std::uint32_t prompt_tokens, std::uint32_t cached_prompt_tokens) override;
  void prompt_scored(std::vector<TokenLogProbs> log_probs) override;
  void tokens(GeneratedTokens tokens) override;
  void finished(const GenerationResult& result) override;
  void failed(const EngineFailure& failure) override;

 private:
  EngineJob job_;
  const std::shared_ptr<JobReader> reader_;
  const std::uint64_t number_;

  // The engine's thread; before it knows the job, the caller's of run().
  bool names_ids_ = false;
  TokenBatch unnamed_;  // text behind the last id, of none
};

}  // namespace orch::worker
