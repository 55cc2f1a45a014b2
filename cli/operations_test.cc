#include "cli/operations.h"

#include <gtest/gtest.h>

namespace orch::cli {
namespace {

constexpr char kReplicas[] = R"({"replicas":[{"replica_id":"a-0","pool_id":"a"},{"replica_id":"a-1","pool_id":"a"}]})";

TEST(Operations, OC_POOL_3050_a_pool_and_a_replica_are_told_apart) {
  EXPECT_EQ(operation_path(kReplicas, "a", "drain").value(), "/v1/pools/a/drain");
  EXPECT_EQ(operation_path(kReplicas, "a-1", "drain").value(), "/v1/replicas/a-1/drain");
}

TEST(Operations, OC_POOL_3050_a_name_that_is_neither_gets_those_that_are) {
  const auto path = operation_path(kReplicas, "b", "drain");
  ASSERT_FALSE(path.ok());
  EXPECT_EQ(path.error(), "no pool and no replica is called 'b'; there are a, a-0, a-1");
  for (const char* body : {"", "null", "[]", R"({"replicas":3})", R"({"replicas":[{"pool_id":7}]})"})
    EXPECT_FALSE(operation_path(body, "a", "drain").ok()) << body;
}

TEST(Operations, OC_POOL_3050_without_a_cluster_nothing_is_asked) {
  ClusterOptions options;
  options.state_dir = testing::TempDir() + "/nothing_runs_here";
  EXPECT_EQ(run_operation(options, {.verb = "drain", .target = {}, .model = {}, .digest = {}}), 1);
}

}  // namespace
}  // namespace orch::cli
