#include "pool-managerd/shell/probe.h"

#include <map>
#include <vector>

#include "gen/metrics.h"

namespace orch::pool {
namespace {

std::vector<runtime::Metrics::Family> own_families() {
  std::vector<runtime::Metrics::Family> out;
  for (const metrics::FamilyRow& row : metrics::kFamilies) {
    if (row.process != metrics::Process::pool_managerd || !row.built) continue;
    runtime::Metrics::Family family;
    family.name = std::string(row.name);
    family.help = std::string(row.help);
    family.kind = row.type == metrics::Type::counter ? runtime::Metrics::Kind::counter
                  : row.type == metrics::Type::gauge ? runtime::Metrics::Kind::gauge
                                                     : runtime::Metrics::Kind::histogram;
    family.buckets.assign(row.buckets.begin(), row.buckets.end());
    family.series_max = row.series_max;
    out.push_back(std::move(family));
  }
  return out;
}

// OC-POOL-3030: crash classes of restart_scheduled_total; each outcome of load, memory, device and process has a name.
const char* crash_class(FailureClass failure) {
  switch (failure) {
    case FailureClass::none:
    case FailureClass::exited:
      return "exit_code";
    case FailureClass::device_lost:
      return "device_lost";
    case FailureClass::out_of_memory:
      return "out_of_memory";
    case FailureClass::killed_by_signal:
      return "signal";
    case FailureClass::spawn_failed:
      return "spawn_failed";
    case FailureClass::start_timeout:
    case FailureClass::silent:
    case FailureClass::not_adopted:
      return "silent";
    case FailureClass::stalled:
      return "stalled";
    case FailureClass::load_failed:
    case FailureClass::load_timeout:
    case FailureClass::identity_mismatch:
    case FailureClass::digest_mismatch:
    case FailureClass::set_mismatch:
    case FailureClass::not_replaced:
      return "load_failed";
    case FailureClass::decode_failed:
    case FailureClass::cancel_kept_slot:
    case FailureClass::counters_stuck:
    case FailureClass::self_check_timeout:
      return "self_check";
  }
  return "exit_code";
}

}  // namespace

Probe::Probe(const Manager& manager) : manager_(manager), metrics_(own_families()) {}

void Probe::failed(const std::string& pool_id, const NotedFailure& failure) {
  if (failure.permanent) return;  // nothing is scheduled
  metrics_.add("restart_scheduled_total",
               {{"pool_id", pool_id}, {"replica_id", failure.replica_id}, {"reason", crash_class(failure.failure)}});
}

void Probe::drained(const std::string& pool_id, DrainReason reason) {
  metrics_.add("drain_events_total", {{"pool_id", pool_id}, {"reason", std::string(to_string(reason))}});
}

void Probe::operation_ended(const Operation& operation) {
  metrics_.add("operations_total", {{"pool_id", operation.pool_id},
                                    {"operation", std::string(to_string(operation.kind))},
                                    {"result", operation.state == OperationState::succeeded ? "pass" : "fail"}});
}

void Probe::gone(const std::string& replica_id) {
  const auto pool = pools_.find(replica_id);
  if (pool == pools_.end()) return;
  metrics_.remove("active_leases", {{"pool_id", pool->second}, {"replica_id", replica_id}});
  for (int state = 0; state < kBreakerStates; ++state) {
    metrics_.remove("breaker_state", {{"pool_id", pool->second},
                                      {"replica_id", replica_id},
                                      {"state", std::string(to_string(static_cast<BreakerState>(state)))}});
  }
  const auto kv = kv_series_.find(replica_id);
  if (kv != kv_series_.end()) metrics_.remove("kv_cache_usage_ratio", kv->second);
  kv_series_.erase(replica_id);
  kv_saturated_.erase(replica_id);
  pools_.erase(pool);
}

std::string Probe::text(Instant now) {
  std::map<std::string, std::pair<std::string, double>> ready;  // pool -> engine, ready replicas
  std::map<std::string, ReplicaView> views;
  for (const ReplicaView& view : manager_.replicas(now)) {
    auto& pool = ready.try_emplace(view.pool_id, view.engine, 0.0).first->second;
    if (view.state == ReplicaState::ready) pool.second += 1;
    metrics_.set("active_leases", {{"pool_id", view.pool_id}, {"replica_id", view.replica_id}},
                 static_cast<double>(manager_.open_leases(view.replica_id)));
    pools_[view.replica_id] = view.pool_id;
    for (int state = 0; state < kBreakerStates; ++state) {
      const auto each = static_cast<BreakerState>(state);
      metrics_.set(
          "breaker_state",
          {{"pool_id", view.pool_id}, {"replica_id", view.replica_id}, {"state", std::string(to_string(each))}},
          view.breaker == each ? 1 : 0);
    }
    views.emplace(view.replica_id, view);
  }
  for (const auto& [pool, entry] : ready)
    metrics_.set("pool_ready", {{"engine", entry.first}, {"pool_id", pool}}, entry.second);
  for (const auto& [replica_id, report] : manager_.last_reports()) {
    if (report->kv_pages_total == 0) continue;
    const ReplicaView& view = views.at(replica_id);
    const runtime::SeriesLabels labels{{"engine", view.engine},
                                       {"engine_version", view.facts.engine_version},
                                       {"pool_id", view.pool_id},
                                       {"replica_id", replica_id}};
    const auto old = kv_series_.find(replica_id);
    if (old != kv_series_.end() && old->second != labels) metrics_.remove("kv_cache_usage_ratio", old->second);
    kv_series_[replica_id] = labels;
    // OC-NUM-1305. A series at 0 says that it is counted.
    std::uint64_t& counted = kv_saturated_[replica_id];
    metrics_.add("kv_saturated_total", labels, static_cast<double>(view.kv_saturated_total - counted));
    counted = view.kv_saturated_total;
    metrics_.set("kv_cache_usage_ratio", labels,
                 static_cast<double>(report->kv_pages_used) / static_cast<double>(report->kv_pages_total));
  }
  return metrics_.text();
}

}  // namespace orch::pool
