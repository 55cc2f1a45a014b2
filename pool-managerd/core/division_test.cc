#include "pool-managerd/core/division.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "pool-managerd/core/replica_state.h"
#include "pool-managerd/core/restart_schedule.h"

namespace orch::pool {
namespace {

// Every combination of three holders with up to four wanted slots each, up to six slots, every offset.
TEST(Division, S2_S3_holds_for_every_small_case) {
  for (std::uint32_t slots = 0; slots <= 6; ++slots) {
    for (std::uint32_t code = 0; code < 5 * 5 * 5 * 8; ++code) {
      std::vector<Demand> demands;
      std::uint32_t rest = code;
      for (int i = 0; i < 3; ++i, rest /= 5) demands.push_back({.wanted = rest % 5, .takes_credit = true});
      for (int i = 0; i < 3; ++i, rest /= 2) demands[static_cast<std::size_t>(i)].takes_credit = rest % 2 == 1;
      const auto wanted =
          std::accumulate(demands.begin(), demands.end(), 0u, [](auto n, const Demand& d) { return n + d.wanted; });
      const bool credit = std::any_of(demands.begin(), demands.end(), [](const Demand& d) { return d.takes_credit; });
      for (std::size_t offset = 0; offset < 3; ++offset) {
        const auto shares = divide_slots(slots, demands, offset);
        const auto sum = std::accumulate(shares.begin(), shares.end(), 0u);
        EXPECT_EQ(sum, credit ? slots : std::min(slots, wanted));
        for (std::size_t i = 0; i < 3; ++i) {
          if (wanted <= slots) EXPECT_GE(shares[i], demands[i].wanted) << "slack: everyone has what it wants";
          if (wanted > slots) EXPECT_LE(shares[i], demands[i].wanted) << "contended: no idle credit";
          for (std::size_t j = 0; j < 3; ++j) {
            // Contended: nobody has two more than somebody who wants more.
            if (wanted > slots && shares[j] < demands[j].wanted) EXPECT_LE(shares[i], shares[j] + 1);
          }
        }
      }
    }
  }
}

TEST(Division, S2_the_remainder_moves_with_the_offset) {
  const std::vector<Demand> two(2);
  EXPECT_EQ(divide_slots(3, two, 0), (std::vector<std::uint32_t>{2, 1}));
  EXPECT_EQ(divide_slots(3, two, 1), (std::vector<std::uint32_t>{1, 2}));
  EXPECT_TRUE(divide_slots(3, {}, 0).empty());
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

TEST(RestartSchedule, OC_POOL_3011_the_breaker_opens_at_its_count_and_again_after_a_failed_trial) {
  RestartSchedule schedule(RestartPolicy{});
  for (int i = 1; i <= 4; ++i) EXPECT_FALSE(schedule.failed(Instant{}, 0).breaker_open);
  EXPECT_TRUE(schedule.failed(Instant{}, 0).breaker_open);
  const auto trial = schedule.failed(Instant{}, 0);
  EXPECT_TRUE(trial.breaker_open);
  EXPECT_EQ(trial.at.ns, Duration::seconds(300).ns);
  schedule.stable();
  EXPECT_FALSE(schedule.failed(Instant{}, 0).breaker_open);
}

TEST(ReplicaState, every_state_can_be_left_towards_a_stop_and_none_skips_the_checks) {
  using enum ReplicaState;
  for (int from = 0; from < kReplicaStates; ++from) {
    const auto state = static_cast<ReplicaState>(from);
    EXPECT_FALSE(may_change(state, state));
    EXPECT_EQ(may_change(state, ready), state == preloading) << "ready only through the readiness gates";
    if (state != stopped) EXPECT_TRUE(may_change(state, stopped) || may_change(state, draining));
  }
}

}  // namespace
}  // namespace orch::pool
