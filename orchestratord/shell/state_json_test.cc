// What readers are told of the core's state.
#include "orchestratord/shell/state_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;
using nlohmann::json;

ReplicaView on_device(const std::string& id, const std::string& accelerator) {
  ReplicaView view = ready_replica(id);
  view.accelerator = accelerator;
  return view;
}

TEST(StateJson, ORCH_2104_a_set_names_the_accelerators_of_all_its_replicas) {
  Bench bench;
  ReplicaView loading = on_device("r4", "");
  loading.state = ReplicaState::preloading;
  bench.manager_up({on_device("r1", "vulkan"), on_device("r2", "cpu"), on_device("r3", "vulkan"), loading});
  const json sets = json::parse(replicasets_json(bench.core));
  ASSERT_EQ(sets.size(), 1u);
  EXPECT_EQ(sets[0]["accelerators"], json({"cpu", "vulkan"}));
  EXPECT_EQ(sets[0]["replicas"], 4);
}

json limits_told(const Config& config, const std::string& tenant) {
  Bench bench{config};
  bench.ready();
  return json::parse(capabilities_json(bench.core, tenant))["engines"][0]["rate_limits"];
}

TEST(StateJson, OC_CTRL_2061_rate_limits_are_those_of_the_callers_tenant) {
  Config config;
  config.tenants.tenants.push_back({.name = "research"});
  TenantQuotas& quotas = config.tenants.tenants[0].quotas;
  quotas.concurrent_jobs = 7;
  quotas.requests_per_second = 5;
  EXPECT_EQ(limits_told(config, "research"), json::parse(R"({"concurrent_jobs": 7, "requests_per_second": 5,
                                                            "request_burst": 5, "enforced": true})"));
  quotas.request_burst = 20;
  quotas.tokens_per_minute = 600;
  config.tenants.dry_run = true;
  EXPECT_EQ(limits_told(config, "research"),
            json::parse(R"({"concurrent_jobs": 7, "requests_per_second": 5, "request_burst": 20,
                            "tokens_per_minute": 600, "enforced": false})"));
  EXPECT_EQ(limits_told(config, "somebody else"), json::parse(R"({"concurrent_jobs": 1024, "enforced": false})"));
}

}  // namespace
}  // namespace orch::gateway
