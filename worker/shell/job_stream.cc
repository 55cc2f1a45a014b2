#include "worker/shell/job_stream.h"

#include <utility>

namespace orch::worker {
namespace {

// More than an end token can release: the engine does not end there.
constexpr std::size_t kUnnamedBytesMax = std::size_t{64} * 1024;

// The outbox knows that it overflowed and makes it the terminal.
EngineFailure behind() { return {.outcome = Outcome::SLOW_CONSUMER, .message = {}, .field = {}}; }

}  // namespace

void JobStream::run(const Fence& fence, const Holder& holder, std::uint32_t lease_slots, GenerationRequest request) {
  const DispatchId id = request.id;
  names_ids_ = !request.resume_ids.empty();
  const auto self = shared_from_this();
  const auto started = job_.start(fence, holder, lease_slots, id, self,
                                  [&](GenerationEngine& engine) { engine.submit(std::move(request), self); });
  if (!started.ok()) reader_->ended(number_, started.error(), {});
}

void JobStream::started(std::uint32_t prompt_tokens, std::uint32_t cached_prompt_tokens) {
  reader_->started(number_, {prompt_tokens, cached_prompt_tokens});
}

void JobStream::prompt_scored(std::vector<TokenLogProbs> log_probs) {
  if (!reader_->prompt_scored(number_, {std::move(log_probs)})) stop(behind());
}

// OC-MIGR-M2: an attempt that goes on behind the last id tells the text that an end token released again, so that this
// one must not be known without the end.
void JobStream::tokens(GeneratedTokens tokens) {
  names_ids_ = names_ids_ || !tokens.ids.empty();
  if (names_ids_ && tokens.ids.empty() && unnamed_.text.size() + tokens.text.size() <= kUnnamedBytesMax) {
    if (unnamed_.text.empty()) unnamed_.index = tokens.index;
    unnamed_.text += tokens.text;
    return;
  }
  if (!unnamed_.text.empty()) tokens.text = std::exchange(unnamed_.text, {}) + tokens.text;
  TokenBatch batch{.index = tokens.index,
                   .ids = std::move(tokens.ids),
                   .text = std::move(tokens.text),
                   .log_probs = std::move(tokens.log_probs)};
  if (!reader_->tokens(number_, std::move(batch))) stop(behind());
}

// The slot is free before the holder can know: its next dispatch must not find it busy.
void JobStream::finished(const GenerationResult& result) {
  if (job_.end(JobEnd::finished)) reader_->ended(number_, result, std::move(unnamed_));
}

void JobStream::failed(const EngineFailure& failure) {
  if (job_.end(JobEnd::failed)) reader_->ended(number_, job_.reason(failure), {});
}

}  // namespace orch::worker
