// The only clock of a process. CLOCK_BOOTTIME, because a lease must not outlive its wall time across a suspend
// (DESIGN-RULES L4; steady_clock stops in suspend). Cores never call this: shells pass the instant in.
#pragma once

#include <ctime>

#include "common/base/time.h"

namespace orch::runtime {

inline Instant now() {
  timespec ts{};
  ::clock_gettime(CLOCK_BOOTTIME, &ts);
  return Instant{static_cast<std::int64_t>(ts.tv_sec) * 1'000'000'000 + static_cast<std::int64_t>(ts.tv_nsec)};
}

}  // namespace orch::runtime
