#include "pool-managerd/core/division.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "pool-managerd/core/replica_state.h"

namespace orch::pool {
namespace {

std::uint32_t sum_of(const std::vector<std::uint32_t>& values) {
  return std::accumulate(values.begin(), values.end(), 0u);
}

std::vector<Want> wants(std::size_t count, double class_v = 0, double tenant_v = 0, Duration age = {}) {
  return std::vector<Want>(count, Want{.class_v = class_v, .tenant_v = tenant_v, .age = age});
}

Demand demand(std::uint32_t running, std::uint32_t waiting, std::uint32_t granted = 0) {
  return {.running = running, .waiting = waiting, .granted = granted, .wants = wants(waiting - granted)};
}

// Every combination of three holders that run up to two, wait for up to two and were granted one or nothing.
TEST(Division, S2_S3_holds_for_every_small_case) {
  for (std::uint32_t slots = 0; slots <= 5; ++slots) {
    for (std::uint32_t code = 0; code < 15 * 15 * 15 * 8; ++code) {
      std::vector<Demand> demands;
      std::uint32_t rest = code;
      for (int i = 0; i < 3; ++i, rest /= 15) {
        const std::uint32_t kind = rest % 15 / 3;  // nothing, waits for one or two, was granted one of them
        const std::uint32_t waiting = kind == 0 ? 0 : kind <= 2 ? 1 : 2;
        demands.push_back(demand(rest % 3, waiting, kind == 2 || kind == 4 ? 1 : 0));
      }
      for (std::size_t i = 0; i < 3; ++i, rest /= 2) demands[i].takes_credit = rest % 2 == 1;
      std::uint32_t wanted = 0;
      bool credit = false;
      for (const Demand& each : demands) {
        wanted += each.running + each.waiting;
        credit = credit || each.takes_credit;
      }
      for (std::size_t offset = 0; offset < 3; ++offset) {
        const Division division = divide_slots(slots, demands, offset);
        const auto& shares = division.slots;
        ASSERT_LE(sum_of(shares), slots);
        ASSERT_EQ(division.contended, wanted > slots);
        if (!division.contended) {
          ASSERT_EQ(sum_of(shares), credit ? slots : wanted);
          for (std::size_t i = 0; i < 3; ++i) {
            ASSERT_GE(shares[i], demands[i].running + demands[i].waiting) << "everyone has what it wants";
            for (std::size_t j = 0; j < 3; ++j) {
              if (!demands[i].takes_credit || !demands[j].takes_credit) continue;
              const auto credit_of = [&](std::size_t k) { return shares[k] - demands[k].running - demands[k].waiting; };
              ASSERT_LE(credit_of(i), credit_of(j) + 1) << "idle credit is split equally";
            }
          }
          continue;
        }
        for (std::size_t i = 0; i < 3; ++i) {
          ASSERT_LE(shares[i], demands[i].running + demands[i].waiting) << "no idle credit";
          if (division.next == i) ASSERT_GT(demands[i].wants.size(), 0u);
        }
      }
    }
  }
}

TEST(Division, S2_the_remainder_moves_with_the_offset) {
  const std::vector<Demand> two(2);
  EXPECT_EQ(divide_slots(3, two, 0).slots, (std::vector<std::uint32_t>{2, 1}));
  EXPECT_EQ(divide_slots(3, two, 1).slots, (std::vector<std::uint32_t>{1, 2}));
  EXPECT_TRUE(divide_slots(3, {}, 0).slots.empty());
}

TEST(Division, S3_idle_slots_go_to_the_lowest_bid_one_by_one) {
  const auto ask = [](double class_v, double tenant_v, std::int64_t age_ms) {
    return Demand{.waiting = 3, .wants = wants(3, class_v, tenant_v, Duration::milliseconds(age_ms))};
  };
  struct Case {
    Demand first, second;
    std::vector<std::uint32_t> slots;
  };
  const std::vector<Case> cases{
      {ask(1, 0, 9), ask(0, 9, 0), {0, 2}},  // the class comes first
      {ask(0, 1, 9), ask(0, 0, 0), {0, 2}},  // then the tenant
      {ask(0, 0, 1), ask(0, 0, 2), {0, 2}},  // then the older
      {ask(0, 0, 1), ask(0, 0, 1), {2, 0}},  // then the orchestrator
  };
  for (const Case& each : cases) {
    const Division division = divide_slots(2, std::vector<Demand>{each.first, each.second}, 1);
    EXPECT_EQ(division.slots, each.slots);
  }
}

TEST(Division, S3_the_next_owner_is_decided_ahead) {
  // Both slots run for the first; the second is lowest.
  std::vector<Demand> demands{demand(2, 3), demand(0, 1)};
  demands[1].wants[0].age = Duration::seconds(1);
  Division division = divide_slots(2, demands, 0);
  EXPECT_EQ(division.next, 1u);
  EXPECT_EQ(division.slots, (std::vector<std::uint32_t>{1, 1})) << "the first may not replace what ends";
  demands[1] = demand(1, 0);
  demands[0] = demand(1, 3);
  division = divide_slots(2, demands, 0);
  EXPECT_EQ(division.next, 0u);
  EXPECT_EQ(division.slots, (std::vector<std::uint32_t>{2, 0}));
  const std::vector<Demand> alone{demand(2, 3)};
  EXPECT_EQ(divide_slots(2, alone, 0).slots, (std::vector<std::uint32_t>{2}));
}

TEST(Division, S4_what_was_granted_stays_while_its_patience_lasts) {
  const std::vector<Demand> demands{demand(1, 1, 1), demand(0, 5)};
  EXPECT_EQ(divide_slots(2, demands, 0).slots, (std::vector<std::uint32_t>{2, 0}));
}

TEST(Division, S4_a_holder_passed_over_comes_last_and_is_served_when_nobody_else_asks) {
  std::vector<Demand> demands{demand(0, 2), demand(0, 2)};
  demands[0].passed_over = true;
  EXPECT_EQ(divide_slots(1, demands, 0).slots, (std::vector<std::uint32_t>{0, 1}));
  demands[1] = demand(0, 0);
  EXPECT_EQ(divide_slots(1, demands, 0).slots, (std::vector<std::uint32_t>{1, 0}));
}

TEST(Division, S5_a_hungry_bid_gets_the_next_slot_and_only_one) {
  std::vector<Demand> demands{demand(0, 4), demand(0, 4)};
  demands[1].wants = wants(4, 7, 7);
  demands[1].hungry_since = Instant{5};
  EXPECT_EQ(divide_slots(1, demands, 0).slots, (std::vector<std::uint32_t>{0, 1}));
  EXPECT_EQ(divide_slots(3, demands, 0).slots, (std::vector<std::uint32_t>{2, 1}));
  demands[0].hungry_since = Instant{4};
  EXPECT_EQ(divide_slots(1, demands, 0).slots, (std::vector<std::uint32_t>{1, 0})) << "the hungrier first";
}

TEST(Division, S1_wants_are_the_lowest_first_without_those_granted) {
  Bid bid{.pool_id = "p", .running = 0, .waiting = 6, .tenants = {}};
  bid.tenants.push_back({JobClass::batch, 2, 1, 2, Duration::seconds(8)});
  bid.tenants.push_back({JobClass::interactive, 1, 5, 2, Duration::seconds(4)});
  const std::vector<Want> all = wants_of(bid, 0, 100);
  ASSERT_EQ(all.size(), 6u);
  EXPECT_EQ(all[0].age, Duration::seconds(4));
  EXPECT_EQ(all[1].age, Duration::seconds(2)) << "spread evenly behind the oldest";
  EXPECT_EQ(all[2].class_v, 2);
  EXPECT_EQ(all[5].class_v, 2) << "unlisted tenants are not lower than the listed";
  EXPECT_EQ(all[5].tenant_v, 5);
  const std::vector<Want> later = wants_of(bid, 1, 2);
  ASSERT_EQ(later.size(), 2u);
  EXPECT_EQ(later[0].age, Duration::seconds(2));
  EXPECT_TRUE(wants_of(bid, 9, 2).empty());
  bid.tenants[0].waiting = 4'000'000'000;
  EXPECT_EQ(wants_of(bid, 1, 2).size(), 2u) << "a million-job bid costs no more";
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
