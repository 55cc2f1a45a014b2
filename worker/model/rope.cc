#include "worker/model/rope.h"

#include <algorithm>

#include "worker/core/numerics.h"
#include "worker/model/gguf_file.h"
#include "worker/model/model_config.h"
#include "worker/model/weights.h"

namespace orch::worker {
namespace {

constexpr double kTwoPi = 6.283185307179586;
constexpr double kFactorMax = 65536;

Result<double, ModelError> bounded(const GgufFile& file, const std::string& key, double otherwise, double least,
                                   double most) {
  ORCH_TRY(value, file.float_value(key));
  const double number = value.value_or(otherwise);
  if (number >= least && number <= most) return number;
  return Err{
      ModelError{ModelErrorKind::bad_file, key,
                 std::to_string(number) + ", allowed: " + std::to_string(least) + " to " + std::to_string(most)}};
}

// The pair that turns `turns` times over the context that the model was trained for.
double pair_of_turns(const ModelConfig& config, double turns) {
  const double base = static_cast<double>(config.rope_base);
  return config.rope_dims * numerics::log64(config.rope_scaling.original_context / (turns * kTwoPi)) /
         (2.0 * numerics::log64(base));
}

double floor64(double x) {
  const double whole = static_cast<double>(static_cast<std::int64_t>(x));
  return whole > x ? whole - 1.0 : whole;
}

// YaRN: pairs below `low` keep their frequency, those from `high` on are divided, and between the two is a ramp.
std::vector<double> yarn_frequencies(const ModelConfig& config, std::vector<double> frequency) {
  const RopeScaling& s = config.rope_scaling;
  const double last = config.rope_dims - 1.0;
  const double low = std::max(0.0, floor64(pair_of_turns(config, s.beta_fast)));
  const double high = std::min(last, -floor64(-pair_of_turns(config, s.beta_slow)));
  for (std::size_t pair = 0; pair < frequency.size(); ++pair) {
    const double along = (static_cast<double>(pair) - low) / std::max(0.001, high - low);
    const double kept = 1.0 - std::min(1.0, std::max(0.0, along));
    frequency[pair] = frequency[pair] / s.factor * (1.0 - kept) + frequency[pair] * kept;
  }
  return frequency;
}

RopeTable table_of(const std::vector<double>& frequency, std::uint32_t positions, double length) {
  RopeTable table;
  table.pairs = static_cast<std::uint32_t>(frequency.size());
  table.cosine.resize(std::size_t{positions} * table.pairs);
  table.sine.resize(table.cosine.size());
  for (std::uint32_t position = 0; position < positions; ++position) {
    for (std::uint32_t pair = 0; pair < table.pairs; ++pair) {
      const numerics::SinCos value = numerics::sincos64(static_cast<double>(position) * frequency[pair]);
      const std::size_t index = std::size_t{position} * table.pairs + pair;
      table.cosine[index] = numerics::store(static_cast<float>(value.cos * length));
      table.sine[index] = numerics::store(static_cast<float>(value.sin * length));
    }
  }
  return table;
}

std::vector<double> plain_frequencies(const ModelConfig& config, float base, const float* factors) {
  std::vector<double> frequency(config.rope_dims / 2);
  for (std::uint32_t pair = 0; pair < frequency.size(); ++pair) {
    const double factor = factors == nullptr ? 1.0 : static_cast<double>(factors[pair]);
    frequency[pair] = numerics::rope_angle(1, pair, config.rope_dims, static_cast<double>(base), factor);
  }
  return frequency;
}

}  // namespace

Result<RopeScaling, ModelError> read_rope_scaling(const GgufFile& file, const std::string& arch) {
  const std::string prefix = arch + ".rope.scaling.";
  RopeScaling scaling;
  ORCH_TRY(type, file.string_value(prefix + "type"));
  // As llama.cpp reads them: linear where only a factor is named, by its name or by an older one.
  const std::string older_key = arch + ".rope.scale_linear";
  const std::string factor_key =
      file.find(prefix + "factor") == nullptr && file.find(older_key) != nullptr ? older_key : prefix + "factor";
  if (!type && file.find(factor_key) == nullptr) return scaling;
  if (type && *type == "none") return scaling;
  if (type && *type != "linear" && *type != "yarn") {
    return Err{ModelError{ModelErrorKind::unsupported, prefix + "type",
                          "'" + std::string(type->substr(0, 40)) + "' is not built; supported: none, linear, yarn"}};
  }
  scaling.kind = type && *type == "yarn" ? RopeScalingKind::yarn : RopeScalingKind::linear;
  ORCH_TRY(written, file.float_value(factor_key));
  if (written.value_or(1.0) != 0.0) {  // 0 says that positions are not scaled, as llama.cpp reads it
    ORCH_TRY(factor, bounded(file, factor_key, 1.0, 1.0, kFactorMax));
    scaling.factor = factor;
  }
  if (scaling.kind == RopeScalingKind::linear) return scaling;
  ORCH_TRY(original, file.unsigned_value(prefix + "original_context_length"));
  if (!original || *original == 0 || *original > (1U << 20)) {
    return Err{
        ModelError{ModelErrorKind::bad_file, prefix + "original_context_length", "missing or outside 1 to 2^20"}};
  }
  scaling.original_context = static_cast<double>(*original);
  ORCH_TRY(fast, bounded(file, prefix + "yarn_beta_fast", 32.0, 0.001, 1e6));
  ORCH_TRY(slow, bounded(file, prefix + "yarn_beta_slow", 1.0, 0.001, 1e6));
  ORCH_TRY(attention, bounded(file, prefix + "yarn_attn_factor", 1.0, 0.001, 1000.0));
  ORCH_TRY(extrapolation, bounded(file, prefix + "yarn_ext_factor", 1.0, 1.0, 1.0));
  static_cast<void>(extrapolation);
  scaling.beta_fast = fast;
  scaling.beta_slow = slow;
  scaling.attention_factor = attention * (1.0 + 0.1 * numerics::log64(scaling.factor));
  return scaling;
}

RopeTable make_rope_table(const ModelConfig& config, const Weights& weights, std::uint32_t positions) {
  const float* factors = weights.rope_factors == kNoTensor ? nullptr : weights.tensors[weights.rope_factors].plain();
  std::vector<double> frequency = plain_frequencies(config, config.rope_base, factors);
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.kind == RopeScalingKind::linear) {
    for (double& f : frequency) f = f / scaling.factor;
  }
  if (scaling.kind == RopeScalingKind::yarn) frequency = yarn_frequencies(config, std::move(frequency));
  return table_of(frequency, positions, scaling.attention_factor);
}

RopeTable make_local_rope_table(const ModelConfig& config, std::uint32_t positions) {
  if (config.window == 0) return {};
  return table_of(plain_frequencies(config, config.architecture.local_rope_base, nullptr), positions, 1.0);
}

}  // namespace orch::worker
