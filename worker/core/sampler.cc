#include "worker/core/sampler.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "worker/core/numerics.h"
#include "worker/core/philox.h"

namespace orch::worker {

namespace {

struct Candidate {
  float logit = 0;
  std::uint32_t id = 0;
};

// A strict total order, so that partial and full sorts give the same prefix.
bool before(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

// Index of the highest logit, lowest id among equals; nullopt when any is not finite.
std::optional<std::uint32_t> argmax(std::span<const float> logits) {
  std::uint32_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if ((numerics::bits_of(logits[i]) & numerics::kAbsMask) >= numerics::kInfBits) return std::nullopt;
    if (logits[i] > logits[best]) best = static_cast<std::uint32_t>(i);
  }
  return best;
}

// Unsigned order of the result = descending order of the float; equal floats, -0 and +0 among them, have equal keys.
std::uint32_t descending_key(float x) {
  const std::uint32_t bits = numerics::bits_of(x == 0.0F ? 0.0F : x);
  const std::uint32_t ascending = (bits & numerics::kSignBit) != 0 ? ~bits : bits | numerics::kSignBit;
  return ~ascending;
}

// The order of before(), for candidates that come in ascending id: a stable radix sort by the logit, 11 bits a pass. A
// whole vocabulary takes a tenth of a comparison sort's time.
void sort_by_logit(std::vector<Candidate>& candidates) {
  constexpr std::size_t kComparisonMax = 1024;
  if (candidates.size() <= kComparisonMax) return std::sort(candidates.begin(), candidates.end(), before);
  constexpr std::uint32_t kBits = 11;
  constexpr std::size_t kBuckets = 1U << kBits;
  std::vector<Candidate> other(candidates.size());
  for (std::uint32_t shift = 0; shift < 32; shift += kBits) {
    std::array<std::uint32_t, kBuckets + 1> starts{};
    const auto bucket = [shift](const Candidate& candidate) {
      return (descending_key(candidate.logit) >> shift) & (kBuckets - 1);
    };
    for (const Candidate& candidate : candidates) ++starts[bucket(candidate) + 1];
    for (std::size_t i = 1; i <= kBuckets; ++i) starts[i] += starts[i - 1];
    for (const Candidate& candidate : candidates) other[starts[bucket(candidate)]++] = candidate;
    candidates.swap(other);
  }
}

// Candidates that can be drawn: exp is exactly 0 more than 30 below the maximum, so those never are and add nothing to
// any sum. Sorted by (logit descending, id ascending), cut to top_k.
std::vector<Candidate> candidates_of(std::span<const float> logits, float maximum, float factor, std::uint32_t top_k) {
  std::vector<Candidate> out;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float scaled = logits[i] * factor;
    if (scaled - maximum >= -30.0F) out.push_back({scaled, static_cast<std::uint32_t>(i)});
  }
  if (top_k > 0 && top_k < out.size()) {
    std::nth_element(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(top_k) - 1, out.end(), before);
    out.resize(top_k);
    std::sort(out.begin(), out.end(), before);
  } else {
    sort_by_logit(out);
  }
  return out;
}

}  // namespace

std::optional<Drawn> sample(std::span<const float> logits, const SamplerParams& params, std::uint64_t seed,
                            std::uint32_t position) {
  const auto best = argmax(logits);
  if (!best) return std::nullopt;
  if (params.temperature <= 0.0F) return Drawn{*best, 0.0F};
  // 1/T in double and rounded once: host work, the same everywhere. Clamped so that scaled logits stay finite.
  const double inverse = 1.0 / static_cast<double>(params.temperature);
  const float factor = static_cast<float>(std::min(inverse, 1e6));
  const float maximum = logits[*best] * factor;
  std::vector<Candidate> candidates = candidates_of(logits, maximum, factor, params.top_k);

  std::vector<float> weights(candidates.size());
  float total = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    weights[i] = numerics::exp(candidates[i].logit - maximum);
    total = total + weights[i];
  }
  std::size_t kept = candidates.size();
  if (params.top_p < 1.0F) {  // the shortest prefix that holds top_p of the weight
    const float wanted = params.top_p * total;
    float sum = 0;
    for (std::size_t i = 0; i < kept; ++i) {
      sum = sum + weights[i];
      if (sum >= wanted) kept = i + 1;
    }
  }
  if (params.min_p > 0.0F) {  // relative to the first, whose weight is exactly 1
    while (kept > 1 && weights[kept - 1] < params.min_p) --kept;
  }
  if (kept < candidates.size()) {
    total = 0;
    for (std::size_t i = 0; i < kept; ++i) total = total + weights[i];
  }
  const PhiloxCounter random =
      philox4x32({position, 0, 0, 0}, {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  const float unit = static_cast<float>(random[0] >> 8) * 0x1p-24F;  // [0, 1)
  const float target = unit * total;
  std::size_t chosen = kept - 1;  // also when rounding puts the target at the very end
  float sum = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    sum = sum + weights[i];
    if (sum > target) {
      chosen = i;
      break;
    }
  }
  const float log_probability = (candidates[chosen].logit - maximum) - numerics::log(total);
  return Drawn{candidates[chosen].id, log_probability};
}

}  // namespace orch::worker
