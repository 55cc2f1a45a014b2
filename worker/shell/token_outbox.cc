#include "worker/shell/token_outbox.h"

#include <utility>

namespace orch::worker {

std::size_t TokenBatch::bytes() const {
  std::size_t sum = ids.size() * sizeof(std::uint32_t) + text.size();
  for (const TokenLogProbs& each : log_probs) sum += each.bytes();
  return sum;
}

void TokenOutbox::started(StartedNote note) {
  if (!finished_) started_ = note;
}

bool TokenOutbox::prompt_scored(PromptScores scores) {
  if (finished_ || overflowed_) return !overflowed_;
  std::size_t bytes = 0;
  for (const TokenLogProbs& each : scores.log_probs) bytes += each.bytes();
  if (scores_bytes_ + bytes > bytes_max_) {
    overflowed_ = true;
    return false;
  }
  scores_bytes_ += bytes;
  if (!scores_) scores_.emplace();
  for (TokenLogProbs& each : scores.log_probs) scores_->log_probs.push_back(std::move(each));
  return true;
}

bool TokenOutbox::tokens(TokenBatch batch) {
  if (finished_ || overflowed_) return !overflowed_;
  const std::size_t waiting = batch_ ? batch_->bytes() : 0;
  if (waiting + batch.bytes() > bytes_max_) {
    overflowed_ = true;
    return false;
  }
  if (!batch_) {
    batch_ = TokenBatch{.index = batch.index, .ids = {}, .text = {}};
  }
  batch_->text += batch.text;
  for (TokenLogProbs& each : batch.log_probs) batch_->log_probs.push_back(std::move(each));
  // The text of a call belongs to its last id: engines that name tokens make one call per token, and a reader can tell
  // their texts apart although they travel together (M2).
  for (std::size_t k = 0; k < batch.ids.size(); ++k) {
    const bool last = k + 1 == batch.ids.size();
    batch_->ids.push_back(batch.ids[k]);
    batch_->text_ends.push_back(static_cast<std::uint32_t>(batch_->text.size() - (last ? 0 : batch.text.size())));
  }
  return true;
}

void TokenOutbox::finish(Terminal terminal) {
  if (finished_) return;
  finished_ = true;
  if (overflowed_) {
    terminal = EngineFailure{.outcome = Outcome::SLOW_CONSUMER,
                             .message = "the reader is more than " + std::to_string(bytes_max_) + " bytes behind",
                             .field = {}};
  }
  terminal_ = std::move(terminal);
}

std::optional<TokenOutbox::Item> TokenOutbox::take() {
  if (started_) return std::exchange(started_, std::nullopt).value();
  if (scores_) {
    scores_bytes_ = 0;
    return Item{std::exchange(scores_, std::nullopt).value()};
  }
  if (batch_) return Item{std::exchange(batch_, std::nullopt).value()};
  if (!terminal_) return std::nullopt;
  const Terminal terminal = std::exchange(terminal_, std::nullopt).value();
  return std::visit([](const auto& value) { return Item{value}; }, terminal);
}

}  // namespace orch::worker
