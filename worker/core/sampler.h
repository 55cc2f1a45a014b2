// Draws a token from a row of logits. Pure: same logits, parameters, counts, mask, seed and position give the same
// token on every device (class X); all float work is of the numerics contract (OC-NUM-1401 to OC-NUM-1408).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "common/base/token_scores.h"
#include "worker/core/token_counts.h"

namespace orch::worker {

struct SamplerParams {
  float temperature = 1.0F;                // 0: the highest logit, lowest id among equals
  std::uint32_t top_k = 0;                 // 0: off
  float top_p = 1.0F;                      // 1: off
  float min_p = 0.0F;                      // 0: off
  float repetition_penalty = 1.0F;         // 1: off; of every token that prompt or completion has
  float frequency_penalty = 0.0F;          // 0: off; for each time the completion has the token
  float presence_penalty = 0.0F;           // 0: off; once, when the completion has the token
  std::vector<LogitBias> logit_bias = {};  // ids distinct and below the vocabulary's size
  std::uint32_t choice = 0;                // which of several answers to one prompt: draws other numbers

  bool has_penalties() const { return repetition_penalty != 1.0F || frequency_penalty != 0 || presence_penalty != 0; }
};

struct Drawn {
  std::uint32_t id = 0;
  float log_probability = 0;  // among the candidates that were left, after temperature; 0 when temperature is 0
};

enum class SampleFault : std::uint8_t {
  not_finite,       // a logit is not (NUMERIC_FAULT)
  nothing_allowed,  // by the mask
};

// Keeps its work space between draws. Not thread-safe.
class Sampler {
 public:
  // `position`: of the drawn token in its sequence, so that a resumed sequence draws what it would have drawn. `mask`:
  // TokenMask::allowed(); empty: every token may be drawn.
  Result<Drawn, SampleFault> draw(std::span<const float> logits, const SamplerParams& params, const TokenCounts& counts,
                                  std::span<const std::uint32_t> mask, std::uint64_t seed, std::uint32_t position);

 private:
  struct Candidate {
    float logit = 0;
    std::uint32_t id = 0;
  };

  // False: a penalised or biased logit is not finite.
  bool adjust(std::span<const float> logits, const SamplerParams& params, const TokenCounts& counts);
  void collect(std::span<const float> logits, std::span<const std::uint32_t> mask, float maximum, float factor);
  void order(std::uint32_t top_k);
  void sort_by_logit();
  Drawn draw_from_candidates(float maximum, const SamplerParams& params, std::uint64_t seed, std::uint32_t position);

  std::vector<float> adjusted_;
  std::vector<Candidate> candidates_;
  std::vector<Candidate> other_;
  std::vector<float> weights_;
};

// One draw without penalties' counts and mask, for tests and tools.
Result<Drawn, SampleFault> sample(std::span<const float> logits, const SamplerParams& params, std::uint64_t seed,
                                  std::uint32_t position);

}  // namespace orch::worker
