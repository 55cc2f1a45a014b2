// One generation: which tokens it has, how many of them the backend has seen, what text they make and when it ends.
// Pure; the engine thread owns it.
//
// Positions count the prompt too. A resumed sequence is fed prompt and resume ids, replays the ids through the byte
// decoder, the stop matcher, the counts and the mask without releasing text, and draws at the same positions as if it
// had never stopped (M2). One that lost its pages is only fed again: everything else is still here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "worker/core/engine_port.h"
#include "worker/core/log_probs.h"
#include "worker/core/pooling.h"
#include "worker/core/sampler.h"
#include "worker/core/token_counts.h"
#include "worker/core/token_mask.h"
#include "worker/text/byte_decoder.h"
#include "worker/text/stop_strings.h"
#include "worker/text/tokenizer.h"

namespace orch::worker {

struct SequenceRequest {
  DispatchId id;
  std::vector<TokenId> prompt;  // template included
  std::vector<TokenId> resume_ids;
  SamplerParams sampling;
  std::uint64_t seed = 0;
  std::uint32_t max_tokens = 0;  // of the whole completion, resume ids included
  std::vector<std::string> stop;
  Instant deadline = Instant::never();
  std::optional<std::uint32_t> log_probs;         // of each drawn token, with so many of the likeliest
  std::optional<std::uint32_t> prompt_log_probs;  // of each prompt token from the second on, likewise
  std::shared_ptr<const TokenMask> mask;          // in its start state; none: every token may come
  std::string tenant;                             // whose pages of equal prefixes it may read
  // Not empty: nothing is drawn; it ends with the log-probabilities of these as the next token. max_tokens is 1.
  std::vector<TokenId> labels;
  // Likewise: it ends with the vector of the prompt.
  std::optional<Pooling> pooling;

  bool draws() const { return labels.empty() && !pooling; }
};

class Sequence {
 public:
  // What one accepted token releases. The end token itself is neither reported nor counted.
  struct Release {
    std::vector<TokenId> ids;
    std::string text;
    std::vector<TokenLogProbs> log_probs;  // per id, when asked for
    std::optional<FinishReason> finish;
  };

  // `tokenizer` must outlive the sequence; ids are below its size.
  Sequence(SequenceRequest request, const Tokenizer& tokenizer);

  // Set when the resume ids alone complete the generation; nothing is fed then.
  const std::optional<FinishReason>& finished_at_start() const { return finished_at_start_; }
  // False: the mask does not allow the resume ids.
  bool resume_allowed() const { return resume_allowed_; }

  const SequenceRequest& request() const { return request_; }
  std::uint32_t prompt_tokens() const { return static_cast<std::uint32_t>(request_.prompt.size()); }
  std::uint32_t completion_tokens() const { return tokens() - prompt_tokens(); }
  std::uint32_t tokens() const { return static_cast<std::uint32_t>(tokens_.size()); }
  std::uint32_t tokens_max() const { return prompt_tokens() + request_.max_tokens; }

  // Tokens the backend has not seen: more than one while the prompt is being fed.
  std::uint32_t pending() const { return tokens() - fed_; }
  std::uint32_t fed() const { return fed_; }
  TokenId token_at(std::uint32_t position) const { return tokens_[position]; }
  const std::vector<TokenId>& all() const { return tokens_; }
  void mark_fed(std::uint32_t count) { fed_ += count; }
  // The backend holds the first `count` tokens and no others.
  void set_fed(std::uint32_t count) { fed_ = count; }

  // So many tokens from the beginning need not be computed for it if others have. The last one is, always: what is
  // drawn comes from its logits; and so is what is to be scored or pooled.
  std::uint32_t sharable() const;

  // Prompt tokens whose log-probability was asked for and is not known yet begin here.
  std::uint32_t next_to_score() const { return next_to_score_; }
  bool scores_prompt() const { return request_.prompt_log_probs && next_to_score_ < prompt_tokens(); }
  // From the logits behind token next_to_score() - 1. nullopt: a logit is not finite.
  std::optional<TokenLogProbs> score_next(std::span<const float> logits);

  // Rows whose hidden state is wanted, and from which position on; for a sequence with a pooling.
  bool wants_hidden(std::uint32_t position) const { return pool_ && pool_->needs(position); }
  std::uint32_t next_hidden() const { return pool_ ? pool_->next() : tokens(); }
  void take_hidden(std::uint32_t position, std::span<const float> row) { pool_->take(position, row); }
  // When all tokens are fed. nullopt: as RowPool::vector().
  std::optional<std::vector<float>> embedding() const { return pool_->vector(); }

  // Draws the next token from the logits of the last one.
  Result<Release, SampleFault> draw(std::span<const float> logits, Sampler& sampler);

 private:
  void finish(Release& release, FinishReason reason);
  TokenLogProbs named(const LogProbs& row, TokenId id, std::uint32_t top) const;

  SequenceRequest request_;
  const Tokenizer& tokenizer_;
  std::vector<TokenId> tokens_;  // prompt, resume ids, drawn
  std::uint32_t fed_ = 0;
  std::uint32_t next_to_score_ = 1;
  TokenCounts counts_;  // kept with penalties only
  std::unique_ptr<TokenMask> mask_;
  std::optional<RowPool> pool_;
  ByteDecoder decoder_;
  StopStrings stops_;
  std::optional<FinishReason> finished_at_start_;
  bool resume_allowed_ = true;
};

// A token id with its bytes: of a control token, which has no visible ones, its name.
ScoredToken named_token(const Tokenizer& tokenizer, const ScoredId& scored);

}  // namespace orch::worker
