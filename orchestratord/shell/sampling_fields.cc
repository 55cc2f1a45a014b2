#include "orchestratord/shell/sampling_fields.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "orchestratord/shell/request_limits.h"

namespace orch::gateway {
using nlohmann::json;

namespace {

// Digits alone, as the API writes ids that are member names.
std::optional<std::uint32_t> token_id(const std::string& text) {
  std::uint32_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  const bool whole = error == std::errc() && end == text.data() + text.size() && !text.empty();
  return whole && (text == "0" || text.front() != '0') ? std::optional(id) : std::nullopt;
}

}  // namespace

void read_shaping(JsonFields& fields, Sampling& sampling) {
  if (const auto value = fields.number("frequency_penalty", -kPenaltyMax, kPenaltyMax))
    sampling.frequency_penalty = static_cast<float>(*value);
  if (const auto value = fields.number("presence_penalty", -kPenaltyMax, kPenaltyMax))
    sampling.presence_penalty = static_cast<float>(*value);
  if (const auto value = fields.number("repetition_penalty", kRepetitionPenaltyMin, kRepetitionPenaltyMax))
    sampling.repetition_penalty = static_cast<float>(*value);
  const json* bias = fields.object("logit_bias");
  if (bias == nullptr) return;
  if (bias->size() > kLogitBiasEntriesMax) {
    return fields.fail("logit_bias", "must have at most " + std::to_string(kLogitBiasEntriesMax) + " entries, has " +
                                         std::to_string(bias->size()));
  }
  for (const auto& [name, value] : bias->items()) {
    const auto id = token_id(name);
    if (!id) return fields.fail("logit_bias", "must have token ids as names: digits, without leading zeros");
    if (!value.is_number() || !(value.get<double>() >= -kLogitBiasMax && value.get<double>() <= kLogitBiasMax)) {
      const std::string path = fields.path_of("logit_bias") + "." + name;
      return fields.adopt(invalid(path, path + " must be a number of -100..100"));
    }
    sampling.logit_bias.push_back({*id, value.get<float>()});
  }
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.id < b.id; });
}

void read_log_probs(JsonFields& fields, JobPayload& payload) {
  const bool wanted = fields.boolean("logprobs", false);
  const auto top = fields.integer("top_logprobs", false, 0, kTopLogProbsMax);
  if (top && !wanted) return fields.fail("top_logprobs", "is allowed with logprobs: true only");
  if (wanted) payload.log_probs = static_cast<std::uint32_t>(top.value_or(0));
}

}  // namespace orch::gateway
