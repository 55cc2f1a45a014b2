#include "worker/core/sampler.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "worker/core/log_probs.h"
#include "worker/core/numerics.h"
#include "worker/core/philox.h"

namespace orch::worker {

namespace {

// A weight this far below the maximum changes nothing (OC-NUM-1408): weights are summed from the largest, which is
// exactly 1, so every sum is at least 1 and the weight is less than half a unit in its last place: e^-16.7 = 5.59e-8,
// 2^-24 = 5.96e-8, and exp is within 2 ULP. The sum stays as it is, and a token on which it does not grow is never
// drawn.
constexpr float kLowest = -16.7F;

bool is_finite(float x) { return (numerics::bits_of(x) & numerics::kAbsMask) < numerics::kInfBits; }

bool allows(std::span<const std::uint32_t> mask, std::size_t id) {
  return mask.empty() || (id / 32 < mask.size() && ((mask[id / 32] >> (id % 32)) & 1U) != 0);
}

// Signed integers in the order of the floats; -0 stands just below +0.
std::int32_t ordered(float x) {
  const auto bits = static_cast<std::int32_t>(numerics::bits_of(x));
  return bits ^ ((bits >> 31) & 0x7FFF'FFFF);
}

// Index of the highest logit, lowest id among equals; nullopt when the mask allows none.
std::optional<std::uint32_t> argmax(std::span<const float> logits, std::span<const std::uint32_t> mask) {
  if (!mask.empty()) {
    std::optional<std::uint32_t> best;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (allows(mask, i) && (!best || logits[i] > logits[*best])) best = static_cast<std::uint32_t>(i);
    }
    return best;
  }
  if (logits.empty()) return std::nullopt;
  std::int32_t highest = ordered(logits[0]);
  for (const float logit : logits) highest = std::max(highest, ordered(logit));
  const float maximum = numerics::float_of(static_cast<std::uint32_t>(highest ^ ((highest >> 31) & 0x7FFF'FFFF)));
  const auto at = std::find(logits.begin(), logits.end(), maximum);  // as floats: -0 and +0 are equal
  return static_cast<std::uint32_t>(at - logits.begin());
}

// Unsigned order of the result = descending order of the float; equal floats, -0 and +0 among them, have equal keys.
std::uint32_t descending_key(float x) {
  const std::uint32_t bits = numerics::bits_of(x == 0.0F ? 0.0F : x);
  const std::uint32_t ascending = (bits & numerics::kSignBit) != 0 ? ~bits : bits | numerics::kSignBit;
  return ~ascending;
}

// A strict total order, so that partial and full sorts give the same prefix.
constexpr auto kBefore = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

}  // namespace

// OC-NUM-1405, OC-NUM-1406: penalties, then bias. 1/r is made on the host in double and rounded once.
bool Sampler::adjust(std::span<const float> logits, const SamplerParams& params, const TokenCounts& counts) {
  adjusted_.assign(logits.begin(), logits.end());
  const float inverse = static_cast<float>(1.0 / static_cast<double>(params.repetition_penalty));
  bool finite = true;
  if (params.has_penalties()) {
    for (const TokenCount& seen : counts.entries()) {
      if (seen.id >= adjusted_.size()) continue;
      float& logit = adjusted_[seen.id];
      if (params.repetition_penalty != 1.0F) logit = logit > 0.0F ? logit * inverse : logit * params.repetition_penalty;
      if (seen.in_completion > 0) {
        const float often = params.frequency_penalty * static_cast<float>(seen.in_completion);
        logit = logit - (often + params.presence_penalty);
      }
      finite = finite && is_finite(logit);
    }
  }
  for (const LogitBias& bias : params.logit_bias) {
    if (bias.id >= adjusted_.size()) continue;
    adjusted_[bias.id] = adjusted_[bias.id] + bias.bias;
    finite = finite && is_finite(adjusted_[bias.id]);
  }
  return finite;
}

void Sampler::collect(std::span<const float> logits, std::span<const std::uint32_t> mask, float maximum, float factor) {
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float scaled = logits[i] * factor;
    if (scaled - maximum < kLowest || !allows(mask, i)) continue;
    candidates_.push_back({scaled, static_cast<std::uint32_t>(i)});
  }
}

// For candidates that come in ascending id: a stable radix sort by the logit, 11 bits a pass. A whole vocabulary takes
// a tenth of a comparison sort's time.
void Sampler::sort_by_logit() {
  constexpr std::size_t kComparisonMax = 1024;
  if (candidates_.size() <= kComparisonMax) return std::sort(candidates_.begin(), candidates_.end(), kBefore);
  constexpr std::uint32_t kBits = 11;
  constexpr std::size_t kBuckets = 1U << kBits;
  other_.resize(candidates_.size());
  for (std::uint32_t shift = 0; shift < 32; shift += kBits) {
    std::array<std::uint32_t, kBuckets + 1> starts{};
    const auto bucket = [shift](const Candidate& candidate) {
      return (descending_key(candidate.logit) >> shift) & (kBuckets - 1);
    };
    for (const Candidate& candidate : candidates_) ++starts[bucket(candidate) + 1];
    for (std::size_t i = 1; i <= kBuckets; ++i) starts[i] += starts[i - 1];
    for (const Candidate& candidate : candidates_) other_[starts[bucket(candidate)]++] = candidate;
    candidates_.swap(other_);
  }
}

// By (logit descending, id ascending), cut to top_k (OC-NUM-1403).
void Sampler::order(std::uint32_t top_k) {
  if (top_k == 0 || top_k >= candidates_.size()) return sort_by_logit();
  std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(top_k) - 1, candidates_.end(),
                   kBefore);
  candidates_.resize(top_k);
  std::sort(candidates_.begin(), candidates_.end(), kBefore);
}

Drawn Sampler::draw_from_candidates(float maximum, const SamplerParams& params, std::uint64_t seed,
                                    std::uint32_t position) {
  weights_.resize(candidates_.size());
  for (std::size_t i = 0; i < candidates_.size(); ++i) weights_[i] = numerics::exp(candidates_[i].logit - maximum);
  float total = 0;
  for (const float weight : weights_) total = total + weight;
  std::size_t kept = candidates_.size();
  if (params.top_p < 1.0F) {  // the shortest prefix that holds top_p of the weight
    const float wanted = params.top_p * total;
    float sum = 0;
    for (std::size_t i = 0; i < kept; ++i) {
      sum = sum + weights_[i];
      if (sum >= wanted) kept = i + 1;
    }
  }
  if (params.min_p > 0.0F) {  // relative to the first, whose weight is exactly 1
    while (kept > 1 && weights_[kept - 1] < params.min_p) --kept;
  }
  if (kept < candidates_.size()) {
    total = 0;
    for (std::size_t i = 0; i < kept; ++i) total = total + weights_[i];
  }
  const PhiloxCounter random = philox4x32({position, params.choice, 0, 0},
                                          {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  const float unit = static_cast<float>(random[0] >> 8) * 0x1p-24F;  // [0, 1)
  const float target = unit * total;                                 // less than the total, rounding included
  std::size_t chosen = kept - 1;
  float sum = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    sum = sum + weights_[i];
    if (sum > target) {
      chosen = i;
      break;
    }
  }
  const float log_probability = (candidates_[chosen].logit - maximum) - numerics::log(total);
  return {candidates_[chosen].id, log_probability};
}

Result<Drawn, SampleFault> Sampler::draw(std::span<const float> logits, const SamplerParams& params,
                                         const TokenCounts& counts, std::span<const std::uint32_t> mask,
                                         std::uint64_t seed, std::uint32_t position) {
  if (!all_finite(logits)) return Err{SampleFault::not_finite};
  if (params.has_penalties() || !params.logit_bias.empty()) {
    if (!adjust(logits, params, counts)) return Err{SampleFault::not_finite};
    logits = adjusted_;
  }
  const auto best = argmax(logits, mask);
  if (!best) return Err{SampleFault::nothing_allowed};
  if (params.temperature <= 0.0F) return Drawn{*best, 0.0F};
  // 1/T in double and rounded once: host work, the same everywhere. Clamped so that scaled logits stay finite.
  const double inverse = 1.0 / static_cast<double>(params.temperature);
  const float factor = static_cast<float>(std::min(inverse, 1e6));
  const float maximum = logits[*best] * factor;
  if (!is_finite(maximum)) return Drawn{*best, 0.0F};  // everything else is infinitely far below
  collect(logits, mask, maximum, factor);
  order(params.top_k);
  return draw_from_candidates(maximum, params, seed, position);
}

Result<Drawn, SampleFault> sample(std::span<const float> logits, const SamplerParams& params, std::uint64_t seed,
                                  std::uint32_t position) {
  Sampler sampler;
  return sampler.draw(logits, params, {}, {}, seed, position);
}

}  // namespace orch::worker
