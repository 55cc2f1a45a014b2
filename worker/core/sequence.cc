#include "worker/core/sequence.h"

#include <utility>

namespace orch::worker {

Sequence::Sequence(SequenceRequest request, const Tokenizer& tokenizer)
    : request_(std::move(request)), tokenizer_(tokenizer), tokens_(request_.prompt), stops_(request_.stop) {
  for (const TokenId id : request_.resume_ids) {
    tokens_.push_back(id);
    if (stops_.push(decoder_.push(tokenizer_.bytes_of(id))).stopped) finished_at_start_ = FinishReason::stop;
  }
  if (!finished_at_start_ && completion_tokens() >= request_.max_tokens) finished_at_start_ = FinishReason::length;
}

std::optional<Sequence::Release> Sequence::draw(std::span<const float> logits) {
  const auto position = static_cast<std::uint32_t>(tokens_.size());
  const auto drawn = sample(logits, request_.sampling, request_.seed, position);
  if (!drawn) return std::nullopt;
  Release release;
  if (tokenizer_.ends_generation(drawn->id)) {
    finish(release, FinishReason::stop);
    return release;
  }
  tokens_.push_back(drawn->id);
  release.ids.push_back(drawn->id);
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
