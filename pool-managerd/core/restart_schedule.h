// When a failed replica is started again: exponential backoff with jitter, and a breaker that opens after too many
// failures in a row and then lets one trial through (OC-POOL-3002, 3011). Pure; one per replica.
#pragma once

#include <cstdint>

#include "common/base/time.h"
#include "pool-managerd/core/settings.h"

namespace orch::pool {

class RestartSchedule {
 public:
  explicit RestartSchedule(RestartPolicy policy) : policy_(policy) {}

  struct Next {
    Instant at;
    bool breaker_open = false;
  };
  // One more failure; `random` is any 64 bits. While the breaker's trial fails, it opens again at once.
  Next failed(Instant now, std::uint64_t random);
  // The replica has been ready for reset_after.
  void stable() { in_a_row_ = 0; }
  std::uint32_t in_a_row() const { return in_a_row_; }

 private:
  RestartPolicy policy_;
  std::uint32_t in_a_row_ = 0;
};

}  // namespace orch::pool
