#include "pool-managerd/core/restart_schedule.h"

#include <algorithm>
#include <limits>

namespace orch::pool {

RestartSchedule::Next RestartSchedule::failed(Instant now, std::uint64_t random) {
  if (in_a_row_ < std::numeric_limits<std::uint32_t>::max()) ++in_a_row_;
  if (in_a_row_ >= policy_.breaker_failures) return {.at = now + policy_.breaker_open, .breaker_open = true};
  Duration delay = std::min(policy_.initial, policy_.max);
  for (std::uint32_t i = 1; i < in_a_row_ && delay < policy_.max; ++i) {
    delay = std::min(delay * static_cast<std::int64_t>(policy_.factor), policy_.max);
  }
  const std::int64_t span = delay.ns / 100 * static_cast<std::int64_t>(policy_.jitter_percent);
  const auto width = static_cast<std::uint64_t>(2 * span + 1);
  return {.at = now + Duration{delay.ns - span + static_cast<std::int64_t>(random % width)}};
}

}  // namespace orch::pool
