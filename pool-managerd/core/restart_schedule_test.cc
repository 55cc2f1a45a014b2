#include "pool-managerd/core/restart_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace orch::pool {
namespace {

Instant at(std::int64_t seconds) { return Instant{} + Duration::seconds(seconds); }

RestartSchedule opened() {
  RestartSchedule schedule(RestartPolicy{});
  for (int i = 0; i < 5; ++i) schedule.failed(at(0), 0);
  return schedule;
}

TEST(RestartSchedule, OC_POOL_3011_grows_to_its_cap_with_bounded_jitter) {
  const RestartPolicy policy{.breaker_failures = 100};
  for (const std::uint64_t random : {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{12345}}) {
    RestartSchedule schedule(policy);
    Duration nominal = policy.initial;
    for (int i = 0; i < 20; ++i) {
      const auto next = schedule.failed(Instant{}, random);
      EXPECT_FALSE(next.breaker_open);
      EXPECT_GE(next.at.ns, nominal.ns / 10 * 9);
      EXPECT_LE(next.at.ns, nominal.ns / 10 * 11);
      nominal = std::min(nominal * 2, policy.max);
    }
  }
}

TEST(RestartSchedule, OC_POOL_3047_opens_at_its_count_and_again_after_a_failed_trial) {
  RestartSchedule schedule(RestartPolicy{});
  for (int i = 1; i <= 4; ++i) {
    EXPECT_FALSE(schedule.failed(at(0), 0).breaker_open);
    schedule.started();
    EXPECT_EQ(schedule.breaker(), BreakerState::closed);
  }
  const auto next = schedule.failed(at(0), 0);
  EXPECT_TRUE(next.breaker_open);
  EXPECT_EQ(next.at, at(300));
  EXPECT_EQ(schedule.breaker(), BreakerState::open);
  schedule.started();
  EXPECT_EQ(schedule.breaker(), BreakerState::half_open);
  EXPECT_TRUE(schedule.failed(at(301), 0).breaker_open);
  EXPECT_EQ(schedule.breaker(), BreakerState::open);
}

TEST(RestartSchedule, OC_POOL_3047_half_open_is_closed_by_readiness_and_time_alone) {
  RestartSchedule schedule = opened();
  EXPECT_TRUE(schedule.clears_at().is_never());
  schedule.started();
  schedule.ready(at(310));
  EXPECT_EQ(schedule.clears_at(), at(610));
  schedule.pass_time(at(609));
  EXPECT_EQ(schedule.breaker(), BreakerState::half_open) << "its one trial is not over";
  schedule.pass_time(at(610));
  EXPECT_EQ(schedule.breaker(), BreakerState::closed);
  EXPECT_EQ(schedule.in_a_row(), 0u);
  EXPECT_TRUE(schedule.clears_at().is_never());
}

TEST(RestartSchedule, OC_POOL_3047_a_failure_soon_after_the_trial_opens_it_again) {
  RestartSchedule schedule = opened();
  schedule.started();
  schedule.ready(at(310));
  EXPECT_TRUE(schedule.failed(at(609), 0).breaker_open);
  RestartSchedule late = opened();
  late.started();
  late.ready(at(310));
  EXPECT_FALSE(late.failed(at(610), 0).breaker_open) << "the time was over, whether or not anybody had looked";
  EXPECT_EQ(late.in_a_row(), 1u);
}

TEST(RestartSchedule, OC_POOL_3051_an_operator_closes_it) {
  RestartSchedule schedule = opened();
  schedule.reset();
  EXPECT_EQ(schedule.breaker(), BreakerState::closed);
  EXPECT_FALSE(schedule.failed(at(1), 0).breaker_open);
}

}  // namespace
}  // namespace orch::pool
