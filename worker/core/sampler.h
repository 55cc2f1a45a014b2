// Draws a token from a row of logits. Pure: same logits, parameters, seed and position give the same token on every
// device (class X); all float work is of the numerics contract.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace orch::worker {

struct SamplerParams {
  float temperature = 1.0F;  // 0: the highest logit, lowest id among equals
  std::uint32_t top_k = 0;   // 0: off
  float top_p = 1.0F;        // 1: off
  float min_p = 0.0F;        // 0: off
};

struct Drawn {
  std::uint32_t id = 0;
  float log_probability = 0;  // among the candidates that were left, after temperature; 0 when temperature is 0
};

// `position`: of the drawn token in its sequence, so that a resumed sequence draws what it would have drawn.
// nullopt: a logit is not finite (NUMERIC_FAULT).
std::optional<Drawn> sample(std::span<const float> logits, const SamplerParams& params, std::uint64_t seed,
                            std::uint32_t position);

}  // namespace orch::worker
