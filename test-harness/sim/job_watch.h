// Follows the jobs of one life of an orchestratord from outside: from the events that go in and the effects that come
// out it keeps its own state of each job, its own count of accepted tokens and its own idea of which attempt is open,
// and compares. What it proves after every step: only edges of the state table (JobPhase); no token of a closed (fence,
// attempt) is accepted or shown (L10); tokens told at the end = tokens accepted, per job and per tenant (M7, I5); no
// drain ends a job before its deadline (I9); jobs kept in memory stay inside their bounds.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "orchestratord/core/orchestrator.h"
#include "sim/fair_watch.h"
#include "sim/world.h"

namespace orch::sim {

class JobWatch {
 public:
  JobWatch(World& world, const std::string& who) : world_(world), who_(who), fair_(world, who) {}

  // Around each step. `now` is local.
  void before(const gateway::Event& event, const gateway::Orchestrator& core, Instant now);
  void after(const gateway::Event& event, const gateway::Effects& effects, const gateway::Orchestrator& core,
             Instant now);
  // With an unpaused process: no job is past its deadline by more than `slack` (I8), every job is where we think it is.
  void look(const gateway::Orchestrator& core, Instant now, Duration slack);

 private:
  struct Shadow {
    JobPhase phase = JobPhase::none;
    std::string tenant;
    std::uint32_t attempt = 0;
    Fence fence;                 // of the attempt
    std::uint64_t accepted = 0;  // ids: those that this attempt began behind, then its own
    std::uint64_t shown = 0;     // of them with their text out
    bool counted = true;         // false: not known how many
    bool input_charged = false;
    std::uint64_t output_charged = 0;  // ids, over all attempts (F2)
  };
  struct Ledger {
    std::uint64_t accepted = 0;
    std::uint64_t settled = 0;
  };

  void move(JobId id, JobPhase to);
  void fault(const std::string& what, JobId id);
  void on(const gateway::NotedEnded& ended, Instant now);
  void on(const gateway::JournalRecord& record);
  void on(const gateway::NotedRecovered& recovered, const gateway::Orchestrator& core);
  void notice_taken_back(const gateway::Orchestrator& core);
  Shadow* open_call(DispatchId dispatch, const Fence& fence);
  void charge_input(const gateway::Orchestrator& core, JobId id, Shadow& job, std::uint64_t uncached);
  void charge_output(const gateway::Orchestrator& core, JobId id, Shadow& job);
  void notice_gone(const gateway::Orchestrator& core);
  void check_bounds(const gateway::Orchestrator& core);

  World& world_;
  std::string who_;
  FairWatch fair_;
  std::map<JobId, Shadow> jobs_;
  std::map<std::string, Ledger> tenants_;
  std::set<JobId> admitting_;
  bool closed_speaks_ = false;  // the event of this step is of a closed attempt
  JobId speaker_;
  Instant drain_end_ = Instant::never();
};

}  // namespace orch::sim
