// How likely a job makes its deadline, from how the last ones did (OC-ADMIT-1003, ORCH-3081): (k + 1) / (n + 2), where
// the n jobs are those of the last 256 of the model and class that were in the most similar position, and k of them
// made it.
//
// Position is room, the time to the deadline as a multiple of the predicted time, apart for jobs that start at once and
// jobs that wait. Asking the similar instead of all, by their ratio of actual to predicted time, matters under earliest
// deadline first: a tight job is served sooner because it is tight, so the ratios of the loose say little about it.
// Until 32 jobs with a deadline are known, all jobs answer by that ratio; one that was cut short counts as too long.
//
// Threads: owned by the core's loop. Complexity: O(n) per call, n <= 256. Bounds: kModelsMax models, least recently
// used first out.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/time.h"
#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

class OnTimeRecord {
 public:
  struct Position {
    const std::string& model;
    Priority priority = Priority::interactive;
    bool waits = false;  // as predicted
    Duration predicted;  // from admission to the end
    Duration left;       // from admission to its deadline, or to the one of its order
  };
  struct Result {
    Duration actual;         // from admission to the end; so far, when it was cut short
    bool cut_short = false;  // by its deadline, a cancel or a failure
    bool deadline = false;   // it had one
  };
  void observe(const Position& position, const Result& result, Instant now);
  double probability(const Position& position) const;

  static constexpr std::size_t kWindow = 256;
  static constexpr std::size_t kNearest = 96;
  static constexpr std::size_t kDeadlinesWanted = 32;
  static constexpr std::size_t kModelsMax = 256;

 private:
  struct Seen {
    double log_room = 0;
    double ratio = 0;  // actual / predicted
    bool made = false;
    bool cut_short = false;
    bool deadline = false;
  };
  struct Window {
    std::vector<Seen> ring;
    std::size_t next = 0;
  };
  struct Record {
    std::array<Window, 4> windows;  // class and whether it waits
    Instant used;
  };
  static std::size_t index(const Position& position) {
    return static_cast<std::size_t>(position.priority) * 2 + (position.waits ? 1 : 0);
  }
  static double by_ratio(const Window& window, double room);
  static double by_nearest(const Window& window, double log_room);

  std::map<std::string, Record> models_;
};

}  // namespace orch::gateway
