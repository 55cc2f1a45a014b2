// What was predicted for a job at its admission, kept with it and compared with what came true.
#pragma once

#include <cstdint>
#include <optional>

#include "common/base/time.h"

namespace orch::gateway {

struct Forecast {
  Duration start;                 // from admission (E3)
  Duration service;               // with the expected output (E2)
  Duration typical;               // with the median output
  Duration quick;                 // 10th percentile
  Duration needed;                // kept free before the deadline (E5)
  bool estimated = true;          // no job was served yet
  bool by_default = true;         // nor did a self-test measure anything: class defaults stand in
  std::optional<double> on_time;  // with a deadline only
  std::uint64_t prompt_tokens = 0;
  std::uint64_t output_tokens = 0;          // o-hat
  Duration left;                            // from admission to its deadline, or to the one of its order
  Instant latest_start = Instant::never();  // E5; never: no deadline
  double fill = 0;                          // of the model's slots, at the last dispatch
  Instant expected_end;                     // of the last dispatch

  Duration total() const { return start + service; }
  bool waits() const { return start > Duration{}; }
};

}  // namespace orch::gateway
