#include "pool-managerd/core/restart_schedule.h"

#include <algorithm>
#include <limits>

#include "common/base/check.h"

namespace orch::pool {

std::string_view to_string(BreakerState state) {
  switch (state) {
    case BreakerState::closed:
      return "closed";
    case BreakerState::open:
      return "open";
    case BreakerState::half_open:
      return "half-open";
  }
  ORCH_CHECK(false);
}

RestartSchedule::Next RestartSchedule::failed(Instant now, std::uint64_t random) {
  pass_time(now);
  ready_since_ = Instant::never();
  if (in_a_row_ < std::numeric_limits<std::uint32_t>::max()) ++in_a_row_;
  if (in_a_row_ >= policy_.breaker_failures) {
    breaker_ = BreakerState::open;
    return {.at = now + policy_.breaker_open, .breaker_open = true};
  }
  Duration delay = std::min(policy_.initial, policy_.max);
  for (std::uint32_t i = 1; i < in_a_row_ && delay < policy_.max; ++i) {
    delay = std::min(delay * static_cast<std::int64_t>(policy_.factor), policy_.max);
  }
  const std::int64_t span = delay.ns / 100 * static_cast<std::int64_t>(policy_.jitter_percent);
  const auto width = static_cast<std::uint64_t>(2 * span + 1);
  return {.at = now + Duration{delay.ns - span + static_cast<std::int64_t>(random % width)}};
}

void RestartSchedule::started() {
  ready_since_ = Instant::never();
  if (breaker_ == BreakerState::open) breaker_ = BreakerState::half_open;
}

Instant RestartSchedule::clears_at() const {
  if (in_a_row_ == 0 || ready_since_.is_never()) return Instant::never();
  return ready_since_ + policy_.reset_after;
}

void RestartSchedule::pass_time(Instant now) {
  if (now < clears_at()) return;
  in_a_row_ = 0;
  breaker_ = BreakerState::closed;
}

void RestartSchedule::reset() {
  in_a_row_ = 0;
  breaker_ = BreakerState::closed;
}

}  // namespace orch::pool
