// Budgets as headers and JSON: what has no limit is left out, costs are decimals without rounding.
#include "orchestratord/shell/budget_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace orch::gateway {
namespace {

std::string headers(const BudgetLeft& left) {
  runtime::HttpResponse response;
  add_budget_headers(response, left);
  std::string out;
  for (const auto& field : response.headers) out += field.name + "=" + field.value + ";";
  return out;
}

TEST(BudgetText, OC_CTRL_2068_headers_carry_what_has_a_limit) {
  EXPECT_EQ(headers({}), "");
  EXPECT_EQ(headers({0, 41, Duration::milliseconds(60'000), 2'000}),
            "X-Budget-Turns-Remaining=0;X-Budget-Tokens-Remaining=41;X-Budget-Time-Remaining-Ms=60000;"
            "X-Budget-Cost-Remaining=0.000002;");
  EXPECT_EQ(headers({std::nullopt, 7, std::nullopt, std::nullopt}), "X-Budget-Tokens-Remaining=7;");
}

TEST(BudgetText, a_cost_is_exact) {
  EXPECT_EQ(cost_text(0), "0.0");
  EXPECT_EQ(cost_text(1), "0.000000001");
  EXPECT_EQ(cost_text(1'500'000'000), "1.5");
  EXPECT_EQ(cost_text(12'000'000'000), "12.0");
  EXPECT_EQ(cost_text(-5), "0.0");
}

TEST(BudgetText, ORCH_2004_a_session_as_json) {
  SessionStanding standing;
  standing.ttl_left = Duration::milliseconds(1500);
  standing.turns = 3;
  standing.live = 1;
  standing.used = {2, 40, Duration::milliseconds(700), 500'000'000};
  standing.left.turns = 5;
  const auto shown = nlohmann::json::parse(session_json("s", standing));
  EXPECT_EQ(shown, nlohmann::json::parse(R"({"session_id":"s","ttl_ms_remaining":1500,"turns":3,"live":1,"tokens":40,)"
                                         R"("time_ms":700,"cost":0.5,"turns_budget_remaining":5})"));
}

}  // namespace
}  // namespace orch::gateway
