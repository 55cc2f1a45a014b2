// Log-probabilities of a row of logits as the model gave it: before penalties, bias, mask and temperature, over the
// whole vocabulary (OC-NUM-1407). Host work in double: ln p(id) = (l(id) - max) - ln R(e^(l - max)), with the
// contract's own exp and log and its order of sums, so that the bytes are the same on every host. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace orch::worker {

struct ScoredId {
  std::uint32_t id = 0;
  float log_probability = 0;
  auto operator<=>(const ScoredId&) const = default;
};

class LogProbs {
 public:
  // `logits`: finite, not empty; must outlive this.
  explicit LogProbs(std::span<const float> logits);

  double log_probability(std::uint32_t id) const;  // id below the row's size
  ScoredId scored(std::uint32_t id) const { return {id, static_cast<float>(log_probability(id))}; }
  // The `count` likeliest, by (logit descending, id ascending).
  std::vector<ScoredId> top(std::uint32_t count) const;

 private:
  std::span<const float> logits_;
  double maximum_ = 0;
  double log_sum_ = 0;
};

bool all_finite(std::span<const float> logits);

}  // namespace orch::worker
