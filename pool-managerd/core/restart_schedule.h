// When a failed replica is started again: exponential backoff with jitter, and a breaker (OC-POOL-3002, 3011, 3047).
// Pure; one per replica.
//
//   closed --(breaker_failures in a row)--> open --(its time is over: one start)--> half-open
//   half-open --(a failure)--> open         half-open --(ready for reset_after, or reset by an operator)--> closed
//
// Half-open never lasts: the start ends in readiness or in a failure within the limits of HealthPolicy, and readiness
// closes it by time alone.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/base/time.h"
#include "pool-managerd/core/settings.h"

namespace orch::pool {

enum class BreakerState : std::uint8_t { closed, open, half_open };
inline constexpr int kBreakerStates = 3;
std::string_view to_string(BreakerState state);

class RestartSchedule {
 public:
  explicit RestartSchedule(RestartPolicy policy) : policy_(policy) {}

  struct Next {
    Instant at;
    bool breaker_open = false;
  };
  // One more failure; `random` is any 64 bits.
  Next failed(Instant now, std::uint64_t random);
  // A process is started: with the breaker open it is the one trial.
  void started();
  void ready(Instant now) { ready_since_ = now; }
  // Closes the breaker and clears the failures in a row once it has been ready for long enough.
  void pass_time(Instant now);
  // When pass_time() has something to do.
  Instant clears_at() const;
  // An operator has looked at it.
  void reset();

  std::uint32_t in_a_row() const { return in_a_row_; }
  BreakerState breaker() const { return breaker_; }

 private:
  RestartPolicy policy_;
  std::uint32_t in_a_row_ = 0;
  BreakerState breaker_ = BreakerState::closed;
  Instant ready_since_ = Instant::never();
};

}  // namespace orch::pool
