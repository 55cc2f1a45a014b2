#include "sim/fair_watch.h"

#include <algorithm>

namespace orch::sim {
namespace {

const gateway::FlowStanding* find(const std::vector<gateway::FlowStanding>& standings, const gateway::FlowId& flow) {
  const auto found =
      std::find_if(standings.begin(), standings.end(), [&](const auto& each) { return each.flow == flow; });
  return found == standings.end() ? nullptr : &*found;
}

}  // namespace

void FairWatch::after_submit(const gateway::Orchestrator& core) {
  if (core.others_heard_at()) return;  // a tenant that waits elsewhere is not idle (F4)
  const std::vector<gateway::FlowStanding> now = core.fairness().standings();
  for (const gateway::FlowStanding& each : now) {
    if (each.flow.tenant.empty() || each.waiting == 0) continue;
    const gateway::FlowStanding* before = find(standings_, each.flow);
    if (before == nullptr || before->waiting == 0) check_lift(each, now);
  }
}

// Judged while those that waited before still do: what left in the same step may have been the lowest.
void FairWatch::check_lift(const gateway::FlowStanding& fresh, const std::vector<gateway::FlowStanding>& now) {
  double floor = 0;
  bool any = false;
  for (const gateway::FlowStanding& before : standings_) {
    const bool same_class = before.flow.domain == fresh.flow.domain && before.flow.priority == fresh.flow.priority &&
                            !before.flow.tenant.empty() && before.flow != fresh.flow;
    if (!same_class || before.waiting == 0) continue;
    const gateway::FlowStanding* still = find(now, before.flow);
    if (still == nullptr || still->waiting == 0 || still->outside != before.outside) return;
    if (before.outside) continue;
    floor = any ? std::min(floor, before.v) : before.v;
    any = true;
  }
  if (!any || fresh.v >= floor) return;
  world_.violation(who_ + ": tenant " + fresh.flow.tenant + " begins to wait at " + std::to_string(fresh.v) +
                   ", the lowest of those that wait has been served " + std::to_string(floor));
}

void FairWatch::look(const gateway::Orchestrator& core) {
  for (const auto& [flow, counters] : core.fairness().own_counters()) {
    if (flow.tenant.empty() || core.tenants().weight(flow.tenant) != 1) continue;
    const auto found = charged_.find(flow);
    const std::uint64_t expected = found == charged_.end() ? 0 : found->second;
    if (counters.delivered == static_cast<std::int64_t>(expected) * gateway::kUnit) continue;
    return world_.violation(who_ + ": tenant " + flow.tenant + " is charged " +
                            std::to_string(counters.delivered / gateway::kUnit) + " for " + flow.domain +
                            ", served were " + std::to_string(expected));
  }
}

}  // namespace orch::sim
