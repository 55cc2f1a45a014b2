#include "worker/core/log_probs.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "worker/core/numerics.h"

namespace orch::worker {

namespace {

constexpr double kFarthest = -700.0;  // beyond it e^x adds nothing to a sum that is at least 1

double weight(double distance) { return distance < kFarthest ? 0.0 : numerics::exp64(distance); }

// R(x) in binary64: leaves of 32, a stride-halving tree inside each, leaf sums by a balanced adjacent tree.
class WideSum {
 public:
  void add_leaf(std::array<double, numerics::kLeaf>& v) {
    for (std::size_t stride = numerics::kLeaf / 2; stride > 0; stride /= 2) {
      for (std::size_t i = 0; i < stride; ++i) v[i] = v[i] + v[i + stride];
    }
    double leaf = v[0];
    std::size_t level = 0;
    for (; ((count_ >> level) & 1U) != 0; ++level) leaf = partial_[level] + leaf;
    partial_[level] = leaf;
    ++count_;
  }
  double total() const {
    double sum = 0;
    for (std::size_t level = 0; level < partial_.size(); ++level) {
      if (((count_ >> level) & 1U) != 0) sum = partial_[level] + sum;
    }
    return sum;
  }

 private:
  std::array<double, 32> partial_{};
  std::uint32_t count_ = 0;
};

}  // namespace

bool all_finite(std::span<const float> logits) {
  std::uint32_t highest = 0;  // integer work without a branch: the compiler makes vectors of it
  for (const float logit : logits) {
    const std::uint32_t magnitude = numerics::bits_of(logit) & numerics::kAbsMask;
    highest = magnitude > highest ? magnitude : highest;
  }
  return highest < numerics::kInfBits;
}

LogProbs::LogProbs(std::span<const float> logits) : logits_(logits) {
  maximum_ = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  WideSum sum;
  for (std::size_t base = 0; base < logits.size(); base += numerics::kLeaf) {
    std::array<double, numerics::kLeaf> leaf{};
    const std::size_t count = std::min<std::size_t>(numerics::kLeaf, logits.size() - base);
    for (std::size_t i = 0; i < count; ++i) leaf[i] = weight(static_cast<double>(logits[base + i]) - maximum_);
    sum.add_leaf(leaf);
  }
  log_sum_ = numerics::log64(sum.total());
}

double LogProbs::log_probability(std::uint32_t id) const {
  return (static_cast<double>(logits_[id]) - maximum_) - log_sum_;
}

std::vector<ScoredId> LogProbs::top(std::uint32_t count) const {
  const std::size_t wanted = std::min<std::size_t>(count, logits_.size());
  const auto before = [this](std::uint32_t a, std::uint32_t b) {
    return logits_[a] != logits_[b] ? logits_[a] > logits_[b] : a < b;
  };
  // `best` is ordered; most ids fail against its last one.
  std::vector<std::uint32_t> best;
  for (std::uint32_t id = 0; wanted > 0 && id < logits_.size(); ++id) {
    if (best.size() == wanted && !before(id, best.back())) continue;
    if (best.size() == wanted) best.pop_back();
    best.insert(std::upper_bound(best.begin(), best.end(), id, before), id);
  }
  std::vector<ScoredId> out;
  out.reserve(best.size());
  for (const std::uint32_t id : best) out.push_back(scored(id));
  return out;
}

}  // namespace orch::worker
