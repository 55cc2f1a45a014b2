// Quantiles of the newest samples, where the newest weigh most: a window of 64 in which each sample weighs 31/32 of the
// one after it, so that about the last 30 decide and one outlier never does.
//
// Threads: a value. Units: the caller's. Complexity: add is O(log n), quantile O(n), n <= 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace orch::gateway {

class DecayingQuantiles {
 public:
  static constexpr std::size_t kWindow = 64;

  void add(double sample);
  bool empty() const { return sorted_.empty(); }
  std::size_t size() const { return sorted_.size(); }
  // The smallest sample at or below which the share `q` of the weight lies; 0 when there is none.
  double quantile(double q) const;

 private:
  struct Sample {
    double value = 0;
    std::uint64_t number = 0;  // grows with each add
  };
  std::vector<Sample> sorted_;  // ascending by value
  std::uint64_t next_ = 0;
};

}  // namespace orch::gateway
