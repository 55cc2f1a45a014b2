// One run of the simulator: a cluster, a workload and faults, all drawn from the seed; then a quiet time in which
// everything must come to rest, and a probe that must be served.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "orchestratord/core/limits.h"
#include "pool-managerd/core/mutation.h"
#include "sim/clients.h"
#include "sim/gap_watch.h"
#include "sim/mutant.h"
#include "sim/world.h"

namespace orch::sim {

// smoke: one of each and few faults; swarm: all of it; soak: like swarm, longer runs.
enum class Profile : std::uint8_t { smoke, swarm, soak };

struct ScenarioOptions {
  std::uint64_t seed = 1;
  Profile profile = Profile::swarm;
  std::size_t trace_lines = 0;  // of the trace, the last ones; 0: none
  bool journal = true;          // two of three orchestratord have one
  bool memory = false;          // workers tell of their KV memory, every third has little
  gateway::Mutation mutation = gateway::Mutation::none;
  pool::Mutation pool_mutation = pool::Mutation::none;
  Mutant mutant = Mutant::none;
};

struct ScenarioResult {
  std::string violation;  // empty: none
  std::uint64_t events = 0;
  std::uint64_t digest = 0;  // of all of them
  Coverage coverage;
  WorkloadTotals work;
  GapTotals gaps;
  PoisonTotals poisons;
  std::deque<std::string> trace;
};

ScenarioResult run_scenario(const ScenarioOptions& options);

}  // namespace orch::sim
