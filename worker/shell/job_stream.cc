#include "worker/shell/job_stream.h"

#include <utility>

namespace orch::worker {

JobStream::JobStream(std::shared_ptr<WorkerState> state, GenerationEngine& engine, JobWriter& writer,
                     std::size_t outbox_bytes_max)
    : job_(std::move(state), engine), writer_(writer), outbox_(outbox_bytes_max) {}

void JobStream::run(const Fence& fence, const Holder& holder, std::uint32_t lease_slots, GenerationRequest request) {
  const DispatchId id = request.id;
  const auto self = shared_from_this();
  const auto started = job_.start(fence, holder, lease_slots, id, self,
                                  [&](GenerationEngine& engine) { engine.submit(std::move(request), self); });
  if (!started.ok()) refuse(started.error());
}

void JobStream::refuse(EngineFailure failure) {
  {
    const std::lock_guard lock(mutex_);
    outbox_.finish(std::move(failure));
  }
  pump();
}

void JobStream::reader_gone() {
  {
    const std::lock_guard lock(mutex_);
    broken_ = true;
  }
  stop({.outcome = Outcome::CANCELED, .message = "the caller went away", .field = {}});
  pump();
}

void JobStream::written(bool ok) {
  {
    const std::lock_guard lock(mutex_);
    busy_ = false;
  }
  if (!ok) return reader_gone();
  pump();
}

void JobStream::pump() {
  std::optional<TokenOutbox::Item> item;
  bool last = false;
  {
    const std::lock_guard lock(mutex_);
    if (busy_ || closed_) return;
    if (!broken_) {
      item = outbox_.take();
      if (!item) return;
      last = is_terminal(*item);
    }
    busy_ = true;
    closed_ = broken_ || last;
  }
  if (item) {
    writer_.write(*item, last);
  } else {
    writer_.abandon();
  }
}

void JobStream::started(std::uint32_t prompt_tokens, std::uint32_t cached_prompt_tokens) {
  {
    const std::lock_guard lock(mutex_);
    outbox_.started({prompt_tokens, cached_prompt_tokens});
  }
  pump();
}

void JobStream::prompt_scored(std::vector<TokenLogProbs> log_probs) {
  bool fits = true;
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || broken_) return;
    fits = outbox_.prompt_scored({std::move(log_probs)});
  }
  if (!fits) stop({.outcome = Outcome::SLOW_CONSUMER, .message = {}, .field = {}});
  pump();
}

void JobStream::tokens(GeneratedTokens tokens) {
  bool fits = true;
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || broken_) return;
    fits = outbox_.tokens({.index = tokens.index,
                           .ids = std::move(tokens.ids),
                           .text = std::move(tokens.text),
                           .log_probs = std::move(tokens.log_probs)});
  }
  if (!fits) stop({.outcome = Outcome::SLOW_CONSUMER, .message = {}, .field = {}});
  pump();
}

void JobStream::finished(const GenerationResult& result) { end(result); }

void JobStream::failed(const EngineFailure& failure) { end(failure); }

void JobStream::end(TokenOutbox::Terminal terminal) {
  // The slot is free before the reader can know: its next dispatch must not find it busy.
  if (!job_.end()) return;
  if (auto* failure = std::get_if<EngineFailure>(&terminal)) *failure = job_.reason(*failure);
  {
    const std::lock_guard lock(mutex_);
    outbox_.finish(std::move(terminal));
  }
  pump();
}

}  // namespace orch::worker
