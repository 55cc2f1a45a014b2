// What a gRPC SubmitRequest may wish of placement, by the limits of the task route.
#include "orchestratord/shell/submit_request.h"

#include <gtest/gtest.h>

#include "orchestratord/shell/request_limits.h"

namespace orch::gateway {
namespace {

v1::SubmitRequest request() {
  v1::SubmitRequest out;
  out.set_task_id("6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10");
  out.set_model_ref("m");
  out.set_max_tokens(8);
  out.mutable_prompt()->set_text("hello");
  return out;
}

std::string refused_field(const v1::SubmitRequest& message) {
  const auto spec = read_submit_request(message);
  return spec.ok() ? "none" : spec.error().field;
}

TEST(SubmitRequest, OC_CORE_1015_a_wish_is_read_like_that_of_a_task) {
  v1::SubmitRequest message = request();
  const auto plain = read_submit_request(message);
  ASSERT_TRUE(plain.ok());
  EXPECT_TRUE(plain->wish.empty());
  v1::PlacementWish& wish = *message.mutable_placement();
  wish.set_pin("p1");
  for (const char* name : {"b", "a", "b"}) wish.add_prefer(name);
  wish.add_avoid("r9");
  wish.add_devices("H200");
  const auto spec = read_submit_request(message);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->wish, (PlacementWish{"p1", {"a", "b"}, {"r9"}, {"H200"}, true}));
  wish.set_allow_fallback(false);
  EXPECT_FALSE(read_submit_request(message)->wish.allow_fallback);
}

TEST(SubmitRequest, OC_CTRL_2072_a_wish_beyond_its_limits_is_refused_by_its_field) {
  v1::SubmitRequest message = request();
  message.mutable_placement()->set_pin(std::string(kPlacementNameBytesMax + 1, 'x'));
  EXPECT_EQ(refused_field(message), "placement.pin");
  message = request();
  for (std::size_t i = 0; i <= kPlacementNamesMax; ++i)
    message.mutable_placement()->add_prefer("p" + std::to_string(i));
  EXPECT_EQ(refused_field(message), "placement.prefer");
  message = request();
  message.mutable_placement()->add_avoid("");
  EXPECT_EQ(refused_field(message), "placement.avoid");
  message = request();
  message.mutable_placement()->add_devices(std::string(kPlacementNameBytesMax + 1, 'x'));
  EXPECT_EQ(refused_field(message), "placement.devices");
}

TEST(SubmitRequest, ORCH_3099_what_has_no_limit_is_absent) {
  v1::BudgetLeft none;
  write_budget({}, none);
  EXPECT_FALSE(none.has_turns() || none.has_tokens() || none.has_time_ms() || none.has_cost_billionths());
  v1::BudgetLeft some;
  write_budget({0, 5, Duration::milliseconds(9), 7}, some);
  EXPECT_TRUE(some.has_turns());
  EXPECT_EQ(some.turns(), 0u);
  EXPECT_EQ(some.tokens(), 5u);
  EXPECT_EQ(some.time_ms(), 9u);
  EXPECT_EQ(some.cost_billionths(), 7u);
}

}  // namespace
}  // namespace orch::gateway
