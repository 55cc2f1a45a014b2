// What PUT /v1/tenants takes, and what GET shows of it.
#include "orchestratord/shell/tenants_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/testing/temp_folder.h"

namespace orch::gateway {
namespace {

std::string refusal(const std::string& body) {
  const auto parsed = parse_tenants(body);
  return parsed.ok() ? "none" : parsed.error().field;
}

TEST(TenantsJson, OC_TENANT_1003_takes_the_whole_replacement) {
  const auto parsed = parse_tenants(
      R"({"dry_run":true,"gateways":2,"defaults":{"concurrent_jobs":9},"tenants":[{"name":"a","weight":4,)"
      R"("highest_class":"batch","running_max":3,"requests_per_second":5,"request_burst":6,"tokens_per_minute":7,)"
      R"("budget_tokens":8,"budget_time_ms":9,"budget_cost_micros":10}]})");
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->dry_run);
  EXPECT_EQ(parsed->gateways, 2);
  EXPECT_EQ(parsed->defaults.quotas.concurrent_jobs, 9);
  ASSERT_EQ(parsed->tenants.size(), 1u);
  const TenantPolicy& a = parsed->tenants[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.weight, 4);
  EXPECT_EQ(a.highest, Priority::batch);
  EXPECT_EQ(a.running_max, 3);
  EXPECT_EQ(a.quotas, (TenantQuotas{1024, 5, 6, 7}));
  EXPECT_EQ(a.budget, (BudgetLimits{0, 8, Duration::milliseconds(9), 10'000}));
}

TEST(TenantsJson, OC_TENANT_1003_what_is_malformed_is_refused_by_its_path) {
  EXPECT_EQ(refusal("{}"), "tenants");
  EXPECT_EQ(refusal(R"({"tenants":[{"weight":1}]})"), "tenants[0].name");
  EXPECT_EQ(refusal(R"({"tenants":[{"name":"a","weight":1.5}]})"), "tenants[0].weight");
  EXPECT_EQ(refusal(R"({"tenants":[{"name":"a","wait":1}]})"), "tenants[0].wait");
  EXPECT_EQ(refusal(R"({"tenants":[7]})"), "tenants[0]");
  EXPECT_EQ(refusal(R"({"tenants":[],"defaults":{"weight":"x"}})"), "defaults.weight");
  EXPECT_EQ(refusal(R"({"tenants":[],"weights":1})"), "weights");
  // Negative numbers reach the core, which names the limit.
  const auto negative = parse_tenants(R"({"tenants":[{"name":"a","tokens_per_minute":-5}]})");
  ASSERT_TRUE(negative.ok());
  EXPECT_EQ(check_tenants(*negative)->field, "tenants[0].tokens_per_minute");
  for (const char* key : {"budget_tokens", "budget_time_ms", "budget_cost_micros"}) {
    for (const char* value : {"-1", "9223372036854775807"}) {
      const auto parsed = parse_tenants(std::string(R"({"tenants":[{"name":"a",")") + key + "\":" + value + "}]}");
      ASSERT_TRUE(parsed.ok()) << key << value;
      const auto fault = check_tenants(*parsed);
      ASSERT_TRUE(fault) << key << value;
      EXPECT_EQ(fault->field, std::string("tenants[0].") + key);
    }
  }
}

TEST(TenantsJson, OC_TENANT_1007_what_was_put_is_read_again_whole) {
  const orch::testing::TempFolder folder;
  const auto none = load_tenants(folder.path());
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none->has_value());
  const std::string put =
      R"({"dry_run":true,"gateways":2,"defaults":{"weight":5,"highest_class":"batch","running_max":1,)"
      R"("concurrent_jobs":9,"requests_per_second":2,"request_burst":3,"tokens_per_minute":4,"budget_tokens":5,)"
      R"("budget_time_ms":6,"budget_cost_micros":7},"tenants":[{"name":"a-b","weight":4,)"
      R"("highest_class":"interactive","running_max":3,"concurrent_jobs":11,"requests_per_second":5,"request_burst":6,)"
      R"("tokens_per_minute":7,"budget_tokens":8,)"
      R"("budget_time_ms":9,"budget_cost_micros":10}]})";
  const auto stored = stored_tenants_json(*parse_tenants(put));
  EXPECT_EQ(nlohmann::json::parse(stored), nlohmann::json::parse(put));
  std::ofstream(folder.path() + "/" + kTenantsFile) << stored;
  const auto loaded = load_tenants(folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.error();
  ASSERT_TRUE(loaded->has_value());
  EXPECT_EQ(stored_tenants_json(**loaded), stored);
}

TEST(TenantsJson, OC_TENANT_1007_a_file_that_is_wrong_is_said_to_be) {
  const orch::testing::TempFolder folder;
  const auto fault = [&](const std::string& text) {
    std::ofstream(folder.path() + "/" + kTenantsFile) << text;
    const auto loaded = load_tenants(folder.path());
    return loaded.ok() ? std::string("none") : loaded.error();
  };
  EXPECT_THAT(fault(R"({"tenants":[)"), ::testing::HasSubstr("JSON"));
  EXPECT_THAT(fault(R"({"tenants":[{"name":"a","weight":0}]})"), ::testing::HasSubstr("weight"));
  EXPECT_THAT(fault(R"({"tenants":[{"name":"a"},{"name":"a"}]})"), ::testing::HasSubstr("a"));
}

TEST(TenantsJson, OC_TENANT_1004_shows_policy_use_and_counters) {
  Config config;
  config.tenants.tenants.push_back({});
  config.tenants.tenants[0].name = "a";
  config.tenants.tenants[0].weight = 3;
  config.tenants.tenants[0].quotas.tokens_per_minute = 60;
  Orchestrator core{config};
  const auto shown = nlohmann::json::parse(tenants_json(core, Instant{1}));
  EXPECT_EQ(shown["gateways"], 1);
  ASSERT_EQ(shown["tenants"].size(), 1u);
  EXPECT_EQ(shown["tenants"][0]["name"], "a");
  EXPECT_EQ(shown["tenants"][0]["weight"], 3);
  EXPECT_EQ(shown["tenants"][0]["live"], 0);
  EXPECT_TRUE(shown["tenants"][0]["requests_left"].is_null());
  EXPECT_EQ(shown["fairness"].size(), 0u);
}

}  // namespace
}  // namespace orch::gateway
