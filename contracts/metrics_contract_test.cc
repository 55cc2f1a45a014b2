#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "gen/metrics.h"

namespace orch::metrics {
namespace {

std::vector<std::string> labels_of(Family family) {
  const auto& row = family_row(family);
  return {row.labels.begin(), row.labels.end()};
}

TEST(MetricsContract, OC_METRICS_7101_rows_stand_at_their_enumerator) {
  for (std::size_t i = 0; i < kFamilies.size(); ++i) EXPECT_EQ(static_cast<std::size_t>(kFamilies[i].family), i);
}

// The fixed families, written down a second time on purpose: a change of the contract must be made in two places.
TEST(MetricsContract, ORCH_3028_fixed_families_keep_their_labels) {
  using Labels = std::vector<std::string>;
  EXPECT_EQ(labels_of(Family::tasks_enqueued_total),
            (Labels{"engine", "engine_version", "pool_id", "replica_id", "priority"}));
  EXPECT_EQ(labels_of(Family::tasks_started_total),
            (Labels{"engine", "engine_version", "pool_id", "replica_id", "priority"}));
  EXPECT_EQ(labels_of(Family::tasks_canceled_total),
            (Labels{"engine", "engine_version", "pool_id", "replica_id", "reason"}));
  EXPECT_EQ(labels_of(Family::tasks_rejected_total), (Labels{"engine", "reason"}));
  EXPECT_EQ(labels_of(Family::admission_backpressure_events_total), (Labels{"engine", "policy"}));
  EXPECT_EQ(labels_of(Family::tokens_in_total), (Labels{"engine", "engine_version", "pool_id", "replica_id"}));
  EXPECT_EQ(labels_of(Family::tokens_out_total), (Labels{"engine", "engine_version", "pool_id", "replica_id"}));
  EXPECT_EQ(labels_of(Family::queue_depth), (Labels{"engine", "engine_version", "pool_id", "priority"}));
  EXPECT_EQ(labels_of(Family::kv_cache_usage_ratio), (Labels{"engine", "engine_version", "pool_id", "replica_id"}));
  EXPECT_EQ(labels_of(Family::gpu_utilization),
            (Labels{"engine", "engine_version", "pool_id", "replica_id", "device"}));
  EXPECT_EQ(labels_of(Family::vram_used_bytes),
            (Labels{"engine", "engine_version", "pool_id", "replica_id", "device"}));
  EXPECT_EQ(labels_of(Family::latency_first_token_ms), (Labels{"engine", "engine_version", "pool_id", "priority"}));
  EXPECT_EQ(labels_of(Family::latency_decode_ms), (Labels{"engine", "engine_version", "pool_id", "priority"}));
  EXPECT_EQ(labels_of(Family::catalog_verifications_total), (Labels{"result", "reason", "engine"}));
  EXPECT_EQ(labels_of(Family::model_state), (Labels{"model_id", "state"}));
  EXPECT_EQ(labels_of(Family::admission_share), (Labels{"tenant", "priority"}));
  EXPECT_EQ(labels_of(Family::deadlines_met_ratio), (Labels{"priority"}));
  EXPECT_EQ(labels_of(Family::preemptions_total), (Labels{"mode", "engine"}));
  EXPECT_EQ(labels_of(Family::resumptions_total), (Labels{"engine"}));
}

TEST(MetricsContract, ORCH_3028_histograms_keep_their_buckets) {
  const auto buckets = [](Family family) {
    return std::vector<double>(family_row(family).buckets.begin(), family_row(family).buckets.end());
  };
  EXPECT_EQ(buckets(Family::latency_first_token_ms),
            (std::vector<double>{50, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000}));
  EXPECT_EQ(buckets(Family::latency_decode_ms),
            (std::vector<double>{250, 500, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 12000}));
}

TEST(MetricsContract, OC_METRICS_7102_every_family_is_bounded) {
  for (const FamilyRow& row : kFamilies) EXPECT_GT(row.series_max, 0u) << row.name;
}

}  // namespace
}  // namespace orch::metrics
