// Purpose: what one job still has to tell its reader. Tokens that pile up while a write is in flight become one batch,
// in bounded bytes. Pure; its owner serialises calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "worker/core/engine_port.h"

namespace orch::worker {

struct StartedNote {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;
};

struct TokenBatch {
  std::uint32_t index = 0;  // of the first token
  std::vector<std::uint32_t> ids;
  std::string text;
  std::vector<std::uint32_t> text_ends = {};  // per id: where its text ends in `text`; filled by the outbox
  std::vector<TokenLogProbs> log_probs = {};  // per id, when asked for

  std::size_t bytes() const;
};

struct PromptScores {
  std::vector<TokenLogProbs> log_probs;  // of prompt tokens in order, from the second on
};

class TokenOutbox {
 public:
  using Terminal = std::variant<GenerationResult, EngineFailure>;
  using Item = std::variant<StartedNote, PromptScores, TokenBatch, GenerationResult, EngineFailure>;

  explicit TokenOutbox(std::size_t bytes_max) : bytes_max_(bytes_max) {}

  void started(StartedNote note);
  // False: the reader is further behind than bytes_max. What waits is kept, this batch and all later ones are dropped.
  bool prompt_scored(PromptScores scores);
  bool tokens(TokenBatch batch);
  // The first one counts, later ones have no effect. After an overflow it becomes SLOW_CONSUMER.
  void finish(Terminal terminal);

  bool empty() const { return !started_ && !scores_ && !batch_ && !terminal_; }
  bool overflowed() const { return overflowed_; }
  bool only_its_end_waits() const { return terminal_ && !started_ && !scores_ && !batch_; }
  // The next thing to write, in order: started, scores of the prompt, tokens, terminal. Empty: nothing to write now.
  std::optional<Item> take();

 private:
  std::size_t bytes_max_;
  std::optional<StartedNote> started_;
  std::optional<PromptScores> scores_;
  std::size_t scores_bytes_ = 0;
  std::optional<TokenBatch> batch_;
  std::optional<Terminal> terminal_;
  bool finished_ = false;
  bool overflowed_ = false;
};

inline bool is_terminal(const TokenOutbox::Item& item) {
  return std::holds_alternative<GenerationResult>(item) || std::holds_alternative<EngineFailure>(item);
}

}  // namespace orch::worker
