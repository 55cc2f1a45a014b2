// Prompts that take down whoever computes them, sent to several gateways (OC-MIGR-M6, proposal 0012): no gateway sends
// a job of one to a worker once it refuses that prompt or has heard that another does; and while nothing disturbs the
// fleet it has heard of it after kTravel, so that the workers lost to one prompt are at most two and those of the
// attempts that had begun elsewhere by then.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "orchestratord/core/effects.h"
#include "sim/gap_watch.h"
#include "sim/world.h"

namespace orch::sim {

struct PoisonTotals {
  std::uint64_t prompts = 0;      // that took down a worker
  std::uint64_t at_several = 0;   // of them those that several gateways had jobs of
  std::uint64_t refused = 0;      // jobs that were refused, or ended, for what another gateway had seen
  std::uint64_t workers_max = 0;  // lost to one
  void add(const PoisonTotals& other);
};

class PoisonWatch {
 public:
  // `reports` knows who has heard what.
  PoisonWatch(World& world, const GapWatch& reports) : world_(world), reports_(reports) {}

  void submitted(JobId job, const std::string& prompt, std::size_t gateway);
  // A worker has died of it.
  void died(JobId job);
  // Before the effect of a gateway's step is executed.
  void before(std::size_t gateway, const gateway::Effect& effect);

  PoisonTotals totals() const;

 private:
  // Twice the interval of the reports by clocks a tenth apart, two messages, and a step at each end.
  static constexpr Duration kTravel = Duration::milliseconds(250);
  struct Refusal {
    Holder by;
    std::uint64_t report = 0;  // the first that says so
    Instant at;
  };
  struct Prompt {
    std::map<std::size_t, Refusal> refusals;  // by gateway
    std::map<std::size_t, int> jobs;
    std::uint64_t workers = 0;
    std::uint64_t refused = 0;
  };
  struct Sent {
    std::string prompt;
    std::size_t gateway = 0;
  };
  void check(std::size_t gateway, const Prompt& prompt, JobId job) const;

  World& world_;
  const GapWatch& reports_;
  std::map<JobId, Sent> jobs_;
  std::map<std::string, Prompt> prompts_;
};

}  // namespace orch::sim
