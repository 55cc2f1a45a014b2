#include "worker/shell/token_outbox.h"

#include <utility>

namespace orch::worker {

void TokenOutbox::started(StartedNote note) {
  if (!finished_) started_ = note;
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
  if (batch_) return Item{std::exchange(batch_, std::nullopt).value()};
  if (!terminal_) return std::nullopt;
  const Terminal terminal = std::exchange(terminal_, std::nullopt).value();
  return std::visit([](const auto& value) { return Item{value}; }, terminal);
}

}  // namespace orch::worker
