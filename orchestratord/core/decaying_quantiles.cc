#include "orchestratord/core/decaying_quantiles.h"

#include <algorithm>
#include <array>

namespace orch::gateway {
namespace {

constexpr double kSampleDecay = 31.0 / 32.0;

// Weight by age; computed once, so that every process has the same bits.
const std::array<double, DecayingQuantiles::kWindow>& sample_weights() {
  static const std::array<double, DecayingQuantiles::kWindow> table = [] {
    std::array<double, DecayingQuantiles::kWindow> out{};
    double weight = 1;
    for (double& each : out) {
      each = weight;
      weight *= kSampleDecay;
    }
    return out;
  }();
  return table;
}

}  // namespace

void DecayingQuantiles::add(double sample) {
  const std::uint64_t number = next_++;
  if (sorted_.size() == kWindow) {
    std::erase_if(sorted_, [&](const Sample& each) { return each.number + kWindow <= number; });
  }
  const auto at = std::upper_bound(sorted_.begin(), sorted_.end(), sample,
                                   [](double value, const Sample& each) { return value < each.value; });
  sorted_.insert(at, {sample, number});
}

double DecayingQuantiles::quantile(double q) const {
  if (sorted_.empty()) return 0;
  const auto weight = [&](const Sample& each) {
    return sample_weights()[static_cast<std::size_t>(next_ - 1 - each.number)];
  };
  double total = 0;
  for (const Sample& each : sorted_) total += weight(each);
  double below = 0;
  for (const Sample& each : sorted_) {
    below += weight(each);
    if (below >= q * total) return each.value;
  }
  return sorted_.back().value;
}

}  // namespace orch::gateway
