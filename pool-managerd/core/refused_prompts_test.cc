// Refused prompts on their way from one gateway to the others.
#include "pool-managerd/core/refused_prompts.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace orch::pool {
namespace {

const OrchId kA{{1, 1}};
const OrchId kB{{2, 2}};
const Instant kStart{1'000'000'000};

RefusedPrompt refused(std::uint64_t n, std::int64_t seconds) { return {{n, ~n}, Duration::seconds(seconds)}; }

TEST(RefusedPrompts, OC_MIGR_M8_they_are_told_with_the_rest_of_their_time) {
  RefusedPrompts prompts;
  prompts.report(kA, {refused(7, 100)}, kStart);
  const auto told = prompts.all(kStart + Duration::seconds(40));
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].prompt, refused(7, 0).prompt);
  EXPECT_EQ(told[0].rest, Duration::seconds(60));
  EXPECT_TRUE(prompts.all(kStart + Duration::seconds(100)).empty());
}

TEST(RefusedPrompts, OC_MIGR_M8_a_prompt_of_several_gateways_is_told_once_and_longest) {
  RefusedPrompts prompts;
  prompts.report(kA, {refused(7, 100)}, kStart);
  prompts.report(kB, {refused(7, 300)}, kStart);
  prompts.report(kB, {refused(7, 200)}, kStart);  // an older word, late
  const auto told = prompts.all(kStart);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].rest, Duration::seconds(300));
}

TEST(RefusedPrompts, OC_MIGR_M8_a_repeated_word_is_no_news) {
  RefusedPrompts prompts;
  prompts.report(kA, {refused(7, 100)}, kStart);
  const std::uint64_t version = prompts.version();
  prompts.report(kA, {refused(7, 90)}, kStart + Duration::seconds(10) + Duration::milliseconds(5));
  EXPECT_EQ(prompts.version(), version);
  prompts.report(kA, {refused(8, 90)}, kStart + Duration::seconds(10));
  EXPECT_GT(prompts.version(), version);
}

TEST(RefusedPrompts, OC_MIGR_M8_a_flood_costs_nobody_else_a_word) {
  RefusedPrompts prompts;
  prompts.report(kA, {refused(7, 10)}, kStart);
  for (std::uint64_t n = 1000; n < 5000; ++n) prompts.report(kB, {refused(n, 500)}, kStart);
  const auto told = prompts.all(kStart);
  EXPECT_EQ(told.size(), kRefusedPromptsMax + 1);
  const auto victim = std::find_if(told.begin(), told.end(), [](const auto& each) { return each.prompt[0] == 7; });
  EXPECT_NE(victim, told.end());
}

TEST(RefusedPrompts, OC_MIGR_M8_of_too_many_those_that_end_first_go) {
  RefusedPrompts prompts;
  for (std::uint64_t n = 1; n <= kRefusedPromptsMax + 5; ++n)
    prompts.report(kA, {refused(n, 100 + static_cast<std::int64_t>(n))}, kStart);
  const auto told = prompts.all(kStart);
  ASSERT_EQ(told.size(), kRefusedPromptsMax);
  EXPECT_EQ(told.front().prompt[0], 6u);
}

TEST(RefusedPrompts, OC_MIGR_M8_nobody_has_a_prompt_refused_for_longer_than_anybody_may) {
  RefusedPrompts prompts;
  prompts.report(kA, {refused(7, 1'000'000), refused(8, -5)}, kStart);
  const auto told = prompts.all(kStart);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].rest, kRefusedRestMax);
}

TEST(RefusedPrompts, OC_MIGR_M8_more_gateways_than_a_manager_serves_say_nothing) {
  RefusedPrompts prompts{2};
  prompts.report(kA, {refused(1, 10)}, kStart);
  prompts.report(kB, {refused(2, 100)}, kStart);
  prompts.report({{3, 3}}, {refused(3, 100)}, kStart);
  EXPECT_EQ(prompts.all(kStart).size(), 2u);
  prompts.report({{3, 3}}, {refused(3, 100)}, kStart + Duration::seconds(10));
  EXPECT_EQ(prompts.all(kStart + Duration::seconds(10)).size(), 2u) << "the first has nothing left to say";
}

}  // namespace
}  // namespace orch::pool
