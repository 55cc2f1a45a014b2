#include "worker/shell/job_stream.h"

#include <utility>

namespace orch::worker {

JobStream::JobStream(std::shared_ptr<WorkerState> state, GenerationEngine& engine, JobWriter& writer,
                     std::size_t outbox_bytes_max)
    : state_(std::move(state)), engine_(engine), writer_(writer), outbox_(outbox_bytes_max) {}

void JobStream::run(const Fence& fence, const Holder& holder, GenerationRequest request) {
  const DispatchId id = request.id;
  {
    const std::lock_guard lock(mutex_);
    id_ = id;
  }
  if (const auto admitted = state_->admit(fence, holder, id, shared_from_this()); !admitted.ok()) {
    return refuse({.outcome = admitted.error(), .message = {}, .field = {}});
  }
  engine_.submit(std::move(request), shared_from_this());
  bool cancel = false;
  {
    const std::lock_guard lock(mutex_);
    submitted_ = true;
    cancel = stop_why_.has_value() && !ended_;  // asked before the engine could know the job
  }
  if (cancel) engine_.cancel(id);
}

void JobStream::refuse(EngineFailure failure) {
  {
    const std::lock_guard lock(mutex_);
    outbox_.finish(std::move(failure));
  }
  pump();
}

void JobStream::stop(EngineFailure why) {
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
  DispatchId id;
  {
    const std::lock_guard lock(mutex_);
    if (ended_) return;
    ended_ = true;
    id = id_;
  }
  // The slot is free before the reader can know: its next dispatch must not find it busy.
  state_->ended(id);
  {
    const std::lock_guard lock(mutex_);
    auto* failure = std::get_if<EngineFailure>(&terminal);
    if (failure != nullptr && failure->outcome == Outcome::CANCELED && stop_why_) terminal = *stop_why_;
    outbox_.finish(std::move(terminal));
  }
  pump();
}

}  // namespace orch::worker
