#include "sim/attempt_watch.h"

#include <gtest/gtest.h>

namespace orch::sim {
namespace {

constexpr Instant at(std::int64_t ms) { return Instant{1'000'000 * ms}; }

struct AttemptWatchTest : ::testing::Test {
  DispatchId attempt(std::uint32_t n) const { return {JobId{{1, 7}}, n}; }
  Holder life(std::uint64_t boot) const { return {.orch = OrchId{{2, 1}}, .boot = boot}; }
  World world{1, 0};
  AttemptWatch watch{world};
};

TEST_F(AttemptWatchTest, OC_MIGR_M1_one_attempt_behind_another_is_well) {
  watch.admitted(attempt(1), life(1), at(0));
  watch.stepped(attempt(1), life(1), at(10));
  watch.admitted(attempt(2), life(2), at(20));
  watch.stepped(attempt(1), life(1), at(15));  // under way as the next one came
  watch.stepped(attempt(2), life(2), at(30));
  EXPECT_EQ(world.violated(), "");
}

TEST_F(AttemptWatchTest, OC_MIGR_M1_a_step_that_begins_behind_a_later_attempt_is_seen) {
  watch.admitted(attempt(1), life(1), at(0));
  watch.admitted(attempt(2), life(2), at(20));
  watch.stepped(attempt(1), life(1), at(21));
  EXPECT_EQ(world.violated(), "attempt 1 of job 7 computes on, 1 ms after attempt 2 has begun (M1)");
}

TEST_F(AttemptWatchTest, OC_MIGR_M1_an_attempt_that_a_later_life_counts_anew_is_seen) {
  watch.admitted(attempt(1), life(1), at(0));
  watch.admitted(attempt(1), life(2), at(20));
  EXPECT_EQ(world.violated(), "attempt 1 of job 7 was admitted twice (M1)");
}

}  // namespace
}  // namespace orch::sim
