// Rotary position tables (.specs/engine-numerics.md, OC-NUM-1304), and the scalings of positions that model files name.
// Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/result.h"
#include "worker/model/model_error.h"

namespace orch::worker {

class GgufFile;
struct ModelConfig;
struct Weights;

enum class RopeScalingKind : std::uint8_t { none, linear, yarn };

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::none;
  double factor = 1.0;            // positions are divided by it
  double original_context = 0;    // yarn: what the model was trained for
  double attention_factor = 1.0;  // yarn: times the length of the rotated vectors
  double beta_fast = 32.0;        // yarn: turns within original_context above which a pair is left alone,
  double beta_slow = 1.0;         // and below which it is divided
};

// The {arch}.rope.scaling.* keys.
Result<RopeScaling, ModelError> read_rope_scaling(const GgufFile& file, const std::string& arch);

// cos and sin as stored f32 (numerics::store applied), [position 0..positions)[pair 0..rope_dims/2).
struct RopeTable {
  std::uint32_t pairs = 0;
  std::vector<float> cosine;
  std::vector<float> sine;
};
RopeTable make_rope_table(const ModelConfig& config, const Weights& weights, std::uint32_t positions);

// Of layers with a sliding window: their own base, no scaling. Empty when the model has none.
RopeTable make_local_rope_table(const ModelConfig& config, std::uint32_t positions);

}  // namespace orch::worker
