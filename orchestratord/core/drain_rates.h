// How fast the waiting jobs of a tenant and class leave the queue, and what a refused one is told (OC-ADMIT-1001): the
// n-th refusal since a place came free has n - 1 others before it, and the tenant may be over its places besides.
//
// A refusal is forgotten when a place comes free, for it or for whoever asks first, and all of them when the tenant has
// nothing waiting any more. The rate is a weighted mean over the last 64 departures while jobs waited; a queue that
// stands still for longer than its mean drains more slowly than its history says.
//
// Threads: owned by the core's loop. Units: Durations. Bounds: kFlowsMax tenants and classes, least recently used first
// out.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "common/base/time.h"
#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

struct DrainFlow {
  const std::string& tenant;
  Priority priority = Priority::interactive;
};

class DrainRates {
 public:
  // A job came into the queue.
  void waits(const DrainFlow& flow, Instant now);
  // One left it, whatever for.
  void left(const DrainFlow& flow, bool still_waiting, Instant now);
  void refused(const DrainFlow& flow, Instant now);

  // Mean time between two departures; `unmeasured` before there were any.
  Duration interval(const DrainFlow& flow, Duration unmeasured, Instant now) const;
  // For the latest refusal. `excess`: places the tenant holds beyond what it may. `salt` decides the jitter.
  Duration retry_after(const DrainFlow& flow, std::uint32_t excess, Duration unmeasured, std::uint64_t salt,
                       Instant now) const;
  std::uint32_t refusals(const DrainFlow& flow) const;

  static constexpr std::size_t kFlowsMax = 4096;
  static constexpr Duration kToldMax = Duration::seconds(3600);
  std::size_t flows() const { return flows_.size(); }

 private:
  using Key = std::pair<std::string, Priority>;
  struct Flow {
    double gaps_ns = 0;  // weighted sum of the gaps between departures while jobs waited
    double gaps = 0;     // weighted number of them
    bool backlog = false;
    Instant backlog_since;
    Instant last_departure;
    std::uint32_t refusals = 0;
    Instant used;
  };
  Flow& flow(const DrainFlow& id, Instant now);
  const Flow* find(const DrainFlow& id) const;

  std::map<Key, Flow> flows_;
};

}  // namespace orch::gateway
