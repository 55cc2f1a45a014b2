#include "sim/attempt_watch.h"

#include <algorithm>
#include <string>

namespace orch::sim {

void AttemptWatch::admitted(const DispatchId& dispatch, const Holder& holder, Instant at) {
  std::vector<Attempt>& all = attempts_[dispatch.job];
  const bool again =
      std::any_of(all.begin(), all.end(), [&](const Attempt& each) { return each.dispatch == dispatch; });
  if (again)
    world_.violation("attempt " + std::to_string(dispatch.attempt) + " of job " +
                     std::to_string(dispatch.job.value.lo) + " was admitted twice (M1)");
  all.push_back({dispatch, holder, at});
}

void AttemptWatch::stepped(const DispatchId& dispatch, const Holder& holder, Instant began) {
  const std::vector<Attempt>& all = attempts_[dispatch.job];
  const Attempt& last = all.back();
  if ((last.dispatch == dispatch && last.holder == holder) || began <= last.at) return;
  world_.violation("attempt " + std::to_string(dispatch.attempt) + " of job " + std::to_string(dispatch.job.value.lo) +
                   " computes on, " + std::to_string((began - last.at).ms()) + " ms after attempt " +
                   std::to_string(last.dispatch.attempt) + " has begun (M1)");
}

}  // namespace orch::sim
