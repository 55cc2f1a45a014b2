// Purpose: orchestratord's metrics and log lines, made of the core's Noted* effects and of its state at a scrape.
// Nothing is counted anywhere else. Threads: loop only. Names and labels: contracts/metrics.yaml; log fields:
// ORCH-3027.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "common/runtime/metrics.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

class Probe {
 public:
  explicit Probe(const Orchestrator& core);

  void note(const NotedAdmitted& noted);
  void note(const NotedRefused& noted);
  void note(const NotedDispatched& noted);
  void note(const NotedFirstToken& noted);
  void note(const NotedEnded& noted);
  void note(const NotedQueueDepth& noted);
  void note(const NotedQuota& noted);
  void note(const NotedPreempted& noted);
  void note(const NotedPoisoned& noted);
  void note(const NotedWarmStart& noted);
  void note(const NotedRecomputed& noted);
  void note(const NotedRetried& noted);
  void note(const NotedJournal& noted);
  void note(const NotedRecovered& noted);
  struct JournalAnswer {
    bool refused = false;
    std::size_t records = 0;
    Duration took;
    std::uint64_t file_bytes = 0;
  };
  void journal_answered(const JournalAnswer& answer);
  void http_answered(std::string_view route, int status);

  // The page of GET /metrics.
  std::string text(std::size_t readers, std::size_t managers);

 private:
  struct Pool {
    std::string engine;
    std::string engine_version;
  };
  Pool pool_of(const std::string& pool_id) const;
  void refresh_replica_info();
  void refresh_model_state();
  void refresh_queue_depth();
  void refresh_tenants(Instant now);

  const Orchestrator& core_;
  runtime::Metrics metrics_;
  std::map<std::pair<std::string, Priority>, std::uint32_t> depth_;        // (pool, class): jobs waiting
  std::map<std::pair<std::string, Priority>, std::uint64_t> service_;      // (tenant, class): tokens on the page
  std::map<Priority, std::pair<std::uint64_t, std::uint64_t>> deadlines_;  // met, of all
  std::set<runtime::SeriesLabels> replica_info_;                           // series on the page
  std::set<runtime::SeriesLabels> model_state_;
};

}  // namespace orch::gateway
