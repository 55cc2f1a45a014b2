#include "worker/core/sequence.h"

#include <algorithm>
#include <utility>

namespace orch::worker {

ScoredToken named_token(const Tokenizer& tokenizer, const ScoredId& scored) {
  const std::string& visible = tokenizer.bytes_of(scored.id);
  return {scored.id, scored.log_probability, visible.empty() ? tokenizer.text_of(scored.id) : visible};
}

Sequence::Sequence(SequenceRequest request, const Tokenizer& tokenizer)
    : request_(std::move(request)), tokenizer_(tokenizer), tokens_(request_.prompt), stops_(request_.stop) {
  if (request_.sampling.has_penalties()) counts_.add_prompt(request_.prompt);
  if (request_.mask != nullptr) mask_ = request_.mask->clone();
  if (request_.pooling) pool_.emplace(*request_.pooling, prompt_tokens());
  for (const TokenId id : request_.resume_ids) {
    tokens_.push_back(id);
    if (request_.sampling.has_penalties()) counts_.add_completion(id);
    if (mask_ != nullptr && !mask_->accept(id)) resume_allowed_ = false;
    if (stops_.push(decoder_.push(tokenizer_.bytes_of(id))).stopped) finished_at_start_ = FinishReason::stop;
  }
  if (!finished_at_start_ && completion_tokens() >= request_.max_tokens) finished_at_start_ = FinishReason::length;
}

std::uint32_t Sequence::sharable() const {
  const std::uint32_t most = std::min(tokens() - 1, next_hidden());
  return scores_prompt() ? std::min(most, next_to_score_ - 1) : most;
}

TokenLogProbs Sequence::named(const LogProbs& row, TokenId id, std::uint32_t top) const {
  TokenLogProbs out;
  out.token = named_token(tokenizer_, row.scored(id));
  for (const ScoredId& each : row.top(top)) out.top.push_back(named_token(tokenizer_, each));
  return out;
}

std::optional<TokenLogProbs> Sequence::score_next(std::span<const float> logits) {
  if (!all_finite(logits)) return std::nullopt;
  const TokenId id = tokens_[next_to_score_++];
  return named(LogProbs(logits), id, request_.prompt_log_probs.value_or(0));
}

Result<Sequence::Release, SampleFault> Sequence::draw(std::span<const float> logits, Sampler& sampler) {
  const auto position = static_cast<std::uint32_t>(tokens_.size());
  const std::span<const std::uint32_t> mask = mask_ != nullptr ? mask_->allowed() : std::span<const std::uint32_t>();
  const auto drawn = sampler.draw(logits, request_.sampling, counts_, mask, request_.seed, position);
  if (!drawn.ok()) return Err{drawn.error()};
  Release release;
  if (tokenizer_.ends_generation(drawn->id)) {
    finish(release, FinishReason::stop);
    return release;
  }
  tokens_.push_back(drawn->id);
  release.ids.push_back(drawn->id);
  if (request_.log_probs) release.log_probs.push_back(named(LogProbs(logits), drawn->id, *request_.log_probs));
  if (request_.sampling.has_penalties()) counts_.add_completion(drawn->id);
  if (mask_ != nullptr && !mask_->accept(drawn->id)) return Err{SampleFault::nothing_allowed};
  StopStrings::Released text = stops_.push(decoder_.push(tokenizer_.bytes_of(drawn->id)));
  release.text = std::move(text.text);
  if (text.stopped) {
    release.finish = FinishReason::stop;
  } else if (completion_tokens() >= request_.max_tokens) {
    finish(release, FinishReason::length);
  }
  return release;
}

// What was held back belongs to the text after all. The last bytes can still complete a stop string.
void Sequence::finish(Release& release, FinishReason reason) {
  StopStrings::Released text = stops_.push(decoder_.finish());
  release.text += text.text;
  if (!text.stopped) release.text += stops_.finish();
  release.finish = text.stopped ? FinishReason::stop : reason;
}

}  // namespace orch::worker
