// Purpose: one accepted dispatch between the engine and its reader: tokens wait in a bounded outbox, a reader that goes
// away cancels at once, and the reader gets exactly one terminal. Threads: any; one mutex, never held while the engine,
// the state or the writer is called. Ownership: shared by the reader's call, the state and the engine; lives on without
// the call until the engine has ended the job.
#pragma once

#include <memory>
#include <mutex>

#include "worker/shell/engine_job.h"
#include "worker/shell/token_outbox.h"

namespace orch::worker {

// The reader's side. One write at a time: after write() the writer answers with JobStream::written(), except after the
// last.
class JobWriter {
 public:
  virtual ~JobWriter() = default;
  virtual void write(const TokenOutbox::Item& item, bool last) = 0;
  virtual void abandon() = 0;  // the reader is gone; no further call follows
};

class JobStream final : public GenerationSink, public RunningJob, public std::enable_shared_from_this<JobStream> {
 public:
  // `writer` must live until write(.., last) or abandon() was called.
  JobStream(std::shared_ptr<WorkerState> state, GenerationEngine& engine, JobWriter& writer,
            std::size_t outbox_bytes_max);

  // Asks for admission and hands the job to the engine; a refusal becomes the terminal.
  void run(const Fence& fence, const Holder& holder, std::uint32_t lease_slots, GenerationRequest request);
  void refuse(EngineFailure failure);

  void written(bool ok);
  void reader_gone();

  void stop(EngineFailure why) override { job_.stop(std::move(why)); }

  void started(std::uint32_t prompt_tokens, std::uint32_t cached_prompt_tokens) override;
  void prompt_scored(std::vector<TokenLogProbs> log_probs) override;
  void tokens(GeneratedTokens tokens) override;
  void finished(const GenerationResult& result) override;
  void failed(const EngineFailure& failure) override;

 private:
  void end(TokenOutbox::Terminal terminal);
  void pump();

  EngineJob job_;
  JobWriter& writer_;

  std::mutex mutex_;
  TokenOutbox outbox_;
  bool busy_ = false;    // a write is in flight: whoever sets it may call the writer
  bool broken_ = false;  // the reader is gone
  bool closed_ = false;  // the writer must not be called again
};

}  // namespace orch::worker
