#include "worker/core/request_check.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "worker/core/kv_pages.h"
#include "worker/core/sampling_limits.h"

namespace orch::worker {

namespace {

Err<EngineFailure> invalid(std::string field, std::string message, Outcome outcome = Outcome::INVALID_PARAMS) {
  return Err{EngineFailure{outcome, std::move(message), std::move(field)}};
}

// Written so that a NaN is outside.
bool within(float value, float low, float high) { return value >= low && value <= high; }

Status<EngineFailure> check_penalties(const SamplerParams& sampling, std::uint32_t vocabulary) {
  if (!within(sampling.repetition_penalty, kRepetitionPenaltyMin, kRepetitionPenaltyMax)) {
    return invalid("repetition_penalty", "repetition_penalty is outside 0.01 to 10");
  }
  if (!within(sampling.frequency_penalty, -kPenaltyMax, kPenaltyMax)) {
    return invalid("frequency_penalty", "frequency_penalty is outside -2 to 2");
  }
  if (!within(sampling.presence_penalty, -kPenaltyMax, kPenaltyMax)) {
    return invalid("presence_penalty", "presence_penalty is outside -2 to 2");
  }
  if (sampling.logit_bias.size() > kLogitBiasEntriesMax) {
    return invalid("logit_bias", "logit_bias has " + std::to_string(sampling.logit_bias.size()) + " entries, at most " +
                                     std::to_string(kLogitBiasEntriesMax));
  }
  std::set<std::uint32_t> seen;
  for (const LogitBias& entry : sampling.logit_bias) {
    const std::string id = std::to_string(entry.id);
    if (entry.id >= vocabulary) {
      return invalid("logit_bias", "logit_bias: token id " + id + "; the vocabulary has " + std::to_string(vocabulary));
    }
    if (!within(entry.bias, -kLogitBiasMax, kLogitBiasMax)) {
      return invalid("logit_bias", "logit_bias: the bias of token id " + id + " is outside -100 to 100");
    }
    if (!seen.insert(entry.id).second) return invalid("logit_bias", "logit_bias: token id " + id + " twice");
  }
  return Ok{};
}

Status<EngineFailure> check_sampling(const SamplerParams& sampling, std::uint32_t vocabulary) {
  if (!within(sampling.temperature, 0, 3.0e38F)) {
    return invalid("temperature", "temperature is not a number of at least 0");
  }
  if (!within(sampling.top_p, 0, 1)) return invalid("top_p", "top_p is outside 0 to 1");
  if (!within(sampling.min_p, 0, 1)) return invalid("min_p", "min_p is outside 0 to 1");
  return check_penalties(sampling, vocabulary);
}

}  // namespace

Status<EngineFailure> check_ids(const std::vector<TokenId>& ids, const std::string& field, std::uint32_t vocabulary) {
  const auto over = std::find_if(ids.begin(), ids.end(), [&](TokenId id) { return id >= vocabulary; });
  if (over == ids.end()) return Ok{};
  return invalid(field, "token_id_exceeds_vocab: token id " + std::to_string(*over) + "; the vocabulary has " +
                            std::to_string(vocabulary));
}

Status<EngineFailure> check_request(const SequenceRequest& request, const RequestBounds& bounds) {
  if (request.prompt.empty()) return invalid("prompt", "the prompt has no tokens");
  if (request.pooling && bounds.embedding == 0) {
    return invalid("pooling", "this backend tells no hidden states", Outcome::NOT_IMPLEMENTED);
  }
  if (request.max_tokens == 0) return invalid("max_tokens", "max_tokens is 0; at least 1");
  if (auto bad = check_sampling(request.sampling, bounds.vocabulary); !bad.ok()) return bad;
  if (auto bad = check_ids(request.prompt, "prompt.token_ids", bounds.vocabulary); !bad.ok()) return bad;
  if (auto bad = check_ids(request.resume_ids, "resume_ids", bounds.vocabulary); !bad.ok()) return bad;
  if (auto bad = check_ids(request.labels, "label_token_ids", bounds.vocabulary); !bad.ok()) return bad;
  const std::string most = std::to_string(kTopLogProbsMax);
  if (request.log_probs.value_or(0) > kTopLogProbsMax) return invalid("logprobs", "logprobs is above " + most);
  if (request.prompt_log_probs.value_or(0) > kTopLogProbsMax) {
    return invalid("prompt_logprobs", "prompt_logprobs is above " + most);
  }
  if (request.resume_ids.size() > request.max_tokens) {
    return invalid("resume_ids", std::to_string(request.resume_ids.size()) + " resume_ids; max_tokens is " +
                                     std::to_string(request.max_tokens));
  }
  const std::uint64_t total = request.prompt.size() + std::uint64_t{request.max_tokens};
  const std::string sum = "the prompt has " + std::to_string(request.prompt.size()) + " tokens and max_tokens is " +
                          std::to_string(request.max_tokens) + ", together " + std::to_string(total);
  if (total > bounds.context) {
    return invalid("max_tokens", sum + "; the context is " + std::to_string(bounds.context), Outcome::CONTEXT_OVERFLOW);
  }
  if (pages_for(static_cast<std::uint32_t>(total)) > bounds.pages_total) {  // alone it would not fit
    return invalid("max_tokens", sum + "; there are KV pages for " + std::to_string(bounds.pages_total * kPageTokens),
                   Outcome::CONTEXT_OVERFLOW);
  }
  return Ok{};
}

}  // namespace orch::worker
