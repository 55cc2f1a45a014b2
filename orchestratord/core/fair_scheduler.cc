#include "orchestratord/core/fair_scheduler.h"

#include <algorithm>

namespace orch::gateway {

void FairScheduler::backlogged(const std::string& model, Priority priority, bool other_waits) {
  Counters& counters = models_[model];
  const std::size_t self = index(priority);
  const double floor = other_waits ? counters.v[1 - self] : counters.last_served;
  counters.v[self] = std::max(counters.v[self], floor);
}

std::array<Priority, 2> FairScheduler::order(const std::string& model) const {
  const auto it = models_.find(model);
  if (it != models_.end() && it->second.v[1] < it->second.v[0]) return {Priority::batch, Priority::interactive};
  return {Priority::interactive, Priority::batch};
}

void FairScheduler::charge(const std::string& model, Priority priority, double work) {
  Counters& counters = models_[model];
  counters.last_served = counters.v[index(priority)];
  counters.v[index(priority)] += work / weights_[index(priority)];
}

void FairScheduler::refund(const std::string& model, Priority priority, double work) {
  const auto it = models_.find(model);
  if (it == models_.end()) return;
  it->second.v[index(priority)] -= work / weights_[index(priority)];
}

double FairScheduler::virtual_time(const std::string& model, Priority priority) const {
  const auto it = models_.find(model);
  return it == models_.end() ? 0 : it->second.v[index(priority)];
}

}  // namespace orch::gateway
