// Which attempts of a job compute, seen at the workers and over all lives of all gateways (OC-MIGR-M1): once a later
// attempt of a job has been admitted anywhere, no step of an earlier one begins any more. A step that was under way may
// end. It reads no process's books.
#pragma once

#include <map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/time.h"
#include "sim/world.h"

namespace orch::sim {

class AttemptWatch {
 public:
  explicit AttemptWatch(World& world) : world_(world) {}

  // A worker has admitted it.
  void admitted(const DispatchId& dispatch, const Holder& holder, Instant at);
  // A step of it that began then has ended.
  void stepped(const DispatchId& dispatch, const Holder& holder, Instant began);

 private:
  struct Attempt {
    DispatchId dispatch;
    Holder holder;
    Instant at;
  };
  World& world_;
  std::map<JobId, std::vector<Attempt>> attempts_;  // as they were admitted
};

}  // namespace orch::sim
