// The metrics of pool-managerd (contracts/metrics.yaml), fed by the core's effects and views. Loop thread.
#pragma once

#include <map>
#include <string>

#include "common/runtime/metrics.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/manager.h"

namespace orch::pool {

class Probe {
 public:
  explicit Probe(const Manager& manager);

  void failed(const std::string& pool_id, const NotedFailure& failure);
  void drained(const std::string& pool_id, DrainReason reason);
  void operation_ended(const Operation& operation);
  // No series of a replica outlives it.
  void gone(const std::string& replica_id);
  // Gauges are set from the live state when somebody looks.
  std::string text(Instant now);

 private:
  const Manager& manager_;
  runtime::Metrics metrics_;
  std::map<std::string, runtime::SeriesLabels> kv_series_;  // by replica
  std::map<std::string, std::uint64_t> kv_saturated_;       // by replica, as counted
  std::map<std::string, std::string> pools_;                // of the replicas with gauges
};

}  // namespace orch::pool
