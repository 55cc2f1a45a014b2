// What the tenants of one life of an orchestratord were served, counted from outside, against what its scheduler says
// (F2, F3): a token is charged once, whatever attempt brought it, and a tenant that comes back to a queue where others
// wait starts no lower than the lowest of them.
//
// Rule F2 as it is read here: the uncached input of a job once, and every output token that no earlier attempt of this
// life was charged for twice. Holds for tenants of weight 1, whose charges need no rounding.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "orchestratord/core/orchestrator.h"
#include "sim/world.h"

namespace orch::sim {

class FairWatch {
 public:
  FairWatch(World& world, std::string who) : world_(world), who_(std::move(who)) {}

  void served(const gateway::FlowId& flow, std::uint64_t charge) { charged_[flow] += charge; }
  // Around the step of a Submit.
  void before_submit(const gateway::Orchestrator& core) { standings_ = core.fairness().standings(); }
  void after_submit(const gateway::Orchestrator& core);
  // Now and then.
  void look(const gateway::Orchestrator& core);

 private:
  void check_lift(const gateway::FlowStanding& fresh, const std::vector<gateway::FlowStanding>& now);

  World& world_;
  std::string who_;
  std::map<gateway::FlowId, std::uint64_t> charged_;  // tokens
  std::vector<gateway::FlowStanding> standings_;      // before the step
};

}  // namespace orch::sim
