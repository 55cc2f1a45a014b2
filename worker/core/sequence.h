// One generation: which tokens it has, how many of them the backend has seen, what text they make and when it ends.
// Pure; the engine thread owns it.
//
// Positions count the prompt too. A resumed sequence is fed prompt and resume ids, replays the ids through the byte
// decoder and the stop matcher without releasing text, and draws at the same positions as if it had never stopped (M2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "worker/core/engine_port.h"
#include "worker/core/sampler.h"
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
};

class Sequence {
 public:
  // What one accepted token releases. The end token itself is neither reported nor counted.
  struct Release {
    std::vector<TokenId> ids;
    std::string text;
    std::optional<FinishReason> finish;
  };

  // `tokenizer` must outlive the sequence; ids are below its size.
  Sequence(SequenceRequest request, const Tokenizer& tokenizer);

  // Set when the resume ids alone complete the generation; nothing is fed then.
  const std::optional<FinishReason>& finished_at_start() const { return finished_at_start_; }

  const SequenceRequest& request() const { return request_; }
  std::uint32_t prompt_tokens() const { return static_cast<std::uint32_t>(request_.prompt.size()); }
  std::uint32_t completion_tokens() const { return static_cast<std::uint32_t>(tokens_.size()) - prompt_tokens(); }
  std::uint32_t tokens_max() const { return prompt_tokens() + request_.max_tokens; }

  // Tokens the backend has not seen: more than one while the prompt is being fed.
  std::uint32_t pending() const { return static_cast<std::uint32_t>(tokens_.size()) - fed_; }
  std::uint32_t fed() const { return fed_; }
  TokenId token_at(std::uint32_t position) const { return tokens_[position]; }
  void mark_fed(std::uint32_t count) { fed_ += count; }

  // Draws the next token from the logits of the last one. nullopt: a logit is not finite.
  std::optional<Release> draw(std::span<const float> logits);

 private:
  void finish(Release& release, FinishReason reason);

  SequenceRequest request_;
  const Tokenizer& tokenizer_;
  std::vector<TokenId> tokens_;  // prompt, resume ids, drawn
  std::uint32_t fed_ = 0;
  ByteDecoder decoder_;
  StopStrings stops_;
  std::optional<FinishReason> finished_at_start_;
};

}  // namespace orch::worker
