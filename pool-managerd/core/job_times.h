// How long jobs take on a replica, from what its reports count (S5): the time that slots were in use, by the jobs that
// ended meanwhile. Recent jobs weigh more. Pure; one per replica.
#pragma once

#include <cstdint>

#include "common/base/time.h"

namespace orch::pool {

class JobTimes {
 public:
  // A report says that `ended` jobs have ended since the process started; until it, `running` jobs ran.
  void passed(std::uint32_t running, std::uint64_t ended, Instant now);
  // A new process counts from 0 on; what was learned stays.
  void restarted();
  Duration mean() const { return ended_ == 0 ? Duration{} : busy_ / static_cast<std::int64_t>(ended_); }

 private:
  static constexpr std::uint64_t kRemembered = 64;  // jobs; beyond it both sums are halved

  Duration busy_;
  std::uint64_t ended_ = 0;
  std::uint64_t counted_ = 0;  // of this process
  Instant last_ = Instant::never();
};

}  // namespace orch::pool
