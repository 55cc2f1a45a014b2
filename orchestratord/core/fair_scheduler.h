// Who is served next between classes: weighted virtual time, never strict (DESIGN-RULES F1, F2, F3; ruling 2). Per
// model and class one counter v, in charged work divided by weight; the backlogged class with the smallest v goes
// first, interactive at a tie. Tenants join as a second level of the same arithmetic; inside a class the order is the
// queue's.
//
// Bound: while both classes stay backlogged, |v_interactive - v_batch| <= C / min weight, C = the largest single
// charge.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "orchestratord/core/job_queue.h"

namespace orch::gateway {

class FairScheduler {
 public:
  FairScheduler(std::uint32_t interactive_weight, std::uint32_t batch_weight)
      : weights_{interactive_weight, batch_weight} {}

  // The class's waiting set went from empty to non-empty: an idle class brings no credit along (F3).
  void backlogged(const std::string& model, Priority priority, bool other_waits);
  // Classes in the order in which they should be tried.
  std::array<Priority, 2> order(const std::string& model) const;
  void charge(const std::string& model, Priority priority, double work);
  // An internal outcome put the job back: as if never dispatched.
  void refund(const std::string& model, Priority priority, double work);
  // Nobody waits or runs any more: there is nothing to be fair between.
  void clear() { models_.clear(); }

  double virtual_time(const std::string& model, Priority priority) const;
  std::size_t models() const { return models_.size(); }

 private:
  struct Counters {
    std::array<double, 2> v{};
    double last_served = 0;  // v of the class served last, before its charge
  };
  static std::size_t index(Priority priority) { return static_cast<std::size_t>(priority); }
  std::array<std::uint32_t, 2> weights_;
  std::map<std::string, Counters> models_;
};

}  // namespace orch::gateway
