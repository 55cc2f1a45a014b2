// Work that overtakes a waiting job: jobs of its tenant that come later and are due earlier, expected to come as they
// did lately (OC-ADMIT-E3). Without it predicted starts are early whenever deadlines differ, for earliest deadline
// first lets the tight ones pass.
//
// Of the last 128 jobs of each (model, class, tenant) their time to the deadline and their work are kept. A job that is
// due in d and waits w is passed by a later one that came after t < w with r to go iff t + r < d; so over the record's
// span T, w = (ahead + sum over it of work * min(w, d - r) / T) / slots, which has one least solution and is reached
// from below.
//
// Threads: owned by the core's loop. Complexity: O(record) per question. Bounds: kFlowsMax flows, least recently used
// first out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "common/base/time.h"
#include "orchestratord/core/fair_scheduler.h"

namespace orch::gateway {

class Overtaking {
 public:
  // A job was admitted at `now`, due in `left`, with `work` of service.
  void arrived(const FlowId& flow, Duration left, Duration work, Instant now);

  // How long a job that is due in `left` waits behind `ahead` of work on `slots` slots, with those that pass it.
  Duration wait(const FlowId& flow, Duration left, Duration ahead, double slots, Instant now) const;

  static constexpr std::size_t kRecord = 128;
  static constexpr std::size_t kRecordMin = 16;  // fewer tell no rate
  static constexpr std::size_t kFlowsMax = 1024;

 private:
  struct Arrival {
    Instant at;
    Duration left;
    Duration work;
  };
  struct Record {
    std::vector<Arrival> ring;
    std::size_t next = 0;  // the oldest, once the ring is full
    Instant used;
  };
  std::map<FlowId, Record> flows_;
};

}  // namespace orch::gateway
