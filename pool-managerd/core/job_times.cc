#include "pool-managerd/core/job_times.h"

#include <algorithm>

namespace orch::pool {

void JobTimes::passed(std::uint32_t running, std::uint64_t ended, Instant now) {
  if (!last_.is_never()) busy_ = busy_ + (now - last_) * static_cast<std::int64_t>(running);
  last_ = now;
  // A report may jump; no more jobs are believed than can be remembered.
  if (ended > counted_) ended_ += std::min(ended - counted_, kRemembered);
  counted_ = std::max(counted_, ended);
  if (ended_ < kRemembered) return;
  busy_ = busy_ / 2;
  ended_ /= 2;
}

void JobTimes::restarted() {
  last_ = Instant::never();
  counted_ = 0;
}

}  // namespace orch::pool
