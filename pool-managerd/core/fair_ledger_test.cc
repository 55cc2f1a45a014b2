// The ledger of service that gateways share: largest per start, sum of the others, and what is left of the gone.
#include "pool-managerd/core/fair_ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

namespace orch::pool {
namespace {

const Holder kA1{{{1, 1}}, 1};
const Holder kA2{{{1, 1}}, 2};
const Holder kB1{{{2, 2}}, 1};
const Instant kStart{1'000'000'000};

FairReport told(std::int64_t delivered, std::int64_t reserved, std::int64_t released, std::int64_t lift = 0) {
  FairReport out;
  out.rows.push_back({"m", false, "t", delivered, reserved, released, lift, true});
  out.uses.push_back({"t", delivered / 10, delivered, 3});
  return out;
}

TEST(FairLedger, F4_a_gateway_hears_the_sum_of_the_others) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.report(kA1, told(100, 60, 20, 7));
  ledger.report(kB1, told(40, 30, 5, 9));
  EXPECT_EQ(ledger.others(kA1).rows, told(40, 30, 5, 9).rows);
  EXPECT_EQ(ledger.others(kB1).rows, told(100, 60, 20, 7).rows);
  const FairReport all = ledger.others({{{3, 3}}, 1});
  ASSERT_EQ(all.rows.size(), 1u);
  EXPECT_EQ(all.rows[0], (FairRow{"m", false, "t", 140, 90, 25, 9, true}));
  EXPECT_EQ(all.uses.at(0), (UseRow{"t", 14, 140, 6}));
}

TEST(FairLedger, OC_FAIR_F3_who_waits_inside_the_bound_anywhere_is_said_to) {
  FairLedger ledger{Duration::seconds(15)};
  FairReport pinned = told(100, 60, 20);
  FairReport free = told(40, 30, 5);
  free.rows[0].inside = true;
  ledger.report(kA1, pinned);
  EXPECT_FALSE(ledger.others({{{3, 3}}, 1}).rows.at(0).inside);
  ledger.report(kB1, free);
  EXPECT_TRUE(ledger.others({{{3, 3}}, 1}).rows.at(0).inside);
  ledger.detached(kB1, kStart);
  ledger.expire(kStart + Duration::seconds(15));
  EXPECT_FALSE(ledger.others({{{3, 3}}, 1}).rows.at(0).inside) << "it is gone";
}

TEST(FairLedger, F4_late_and_repeated_reports_change_nothing) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.report(kA1, told(100, 60, 20));
  ledger.report(kA1, told(90, 50, 10));
  EXPECT_EQ(ledger.others(kB1).rows, told(100, 60, 20).rows);
}

TEST(FairLedger, F4_a_start_that_is_gone_keeps_v_and_loses_rho) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.report(kA1, told(100, 60, 20));
  ledger.detached(kA1, kStart);
  ledger.expire(kStart + Duration::seconds(14));
  EXPECT_EQ(ledger.others(kB1).rows.at(0).reserved, 60);  // it may come back
  EXPECT_EQ(ledger.next_expiry(), kStart + Duration::seconds(15));
  ledger.expire(kStart + Duration::seconds(15));
  const FairRow row = ledger.others(kB1).rows.at(0);
  EXPECT_EQ(row.delivered, 100);
  EXPECT_EQ(row.reserved, row.released);
  EXPECT_FALSE(row.waiting);
  EXPECT_EQ(ledger.others(kB1).uses.at(0).live, 0);
  EXPECT_EQ(ledger.others(kB1).uses.at(0).tokens, 100);
}

TEST(FairLedger, F4_a_later_start_hears_of_its_own_past) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.report(kA1, told(100, 60, 20));
  ledger.attached(kA2);
  ledger.report(kA2, told(5, 0, 0));
  EXPECT_EQ(ledger.others(kA2).rows.at(0).delivered, 100);
  EXPECT_EQ(ledger.others(kB1).rows.at(0).delivered, 105);
  EXPECT_EQ(ledger.others(kB1).rows.at(0).reserved, ledger.others(kB1).rows.at(0).released);
}

// A gateway whose link was broken for longer than a lease lives is the same start as before.
TEST(FairLedger, F4_a_start_that_comes_back_is_counted_once_and_does_not_hear_itself) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.attached(kA1);
  ledger.report(kA1, told(100, 60, 20));
  ledger.detached(kA1, kStart);
  ledger.expire(kStart + Duration::seconds(15));
  EXPECT_EQ(ledger.next_expiry(), Instant::never()) << "it has expired once";
  ledger.attached(kA1);
  EXPECT_EQ(ledger.others(kB1).rows.at(0).reserved, 60) << "its jobs may have run on";
  ledger.report(kA1, told(100, 60, 30));
  EXPECT_EQ(ledger.others(kB1).rows, told(100, 60, 30).rows);
  EXPECT_EQ(ledger.others(kB1).uses, told(100, 60, 30).uses);
  EXPECT_TRUE(ledger.others(kA1).rows.empty());
  EXPECT_TRUE(ledger.others(kA1).uses.empty());
}

// Whoever hears keeps the largest of each counter: a smaller `reserved` would say nothing.
TEST(FairLedger, F4_a_reservation_is_dropped_by_counters_that_only_grow) {
  for (const bool later : {false, true}) {
    FairLedger ledger{Duration::seconds(15)};
    ledger.attached(kA1);
    ledger.report(kA1, told(100, 60, 20));
    if (later) ledger.attached(kA2);
    if (!later) ledger.detached(kA1, kStart);
    ledger.expire(kStart + Duration::seconds(15));
    EXPECT_EQ(ledger.others(kB1).rows.at(0).reserved, 60) << later;
    EXPECT_EQ(ledger.others(kB1).rows.at(0).released, 60) << later;
  }
}

TEST(FairLedger, F4_the_one_that_is_gone_longest_makes_room_and_is_counted_once_when_it_returns) {
  FairLedger ledger{Duration::seconds(15), 2};
  const Holder third{{{3, 3}}, 1};
  ledger.report(kA1, told(100, 60, 20));
  ledger.report(kB1, told(40, 30, 5));
  ledger.report(third, told(7, 0, 0));
  EXPECT_TRUE(ledger.others(third).rows.at(0).delivered == 140) << "there is no room, and nobody is gone";
  EXPECT_EQ(ledger.others(kA1).rows.at(0).delivered, 40);
  ledger.detached(kA1, kStart + Duration::seconds(1));
  ledger.detached(kB1, kStart);
  ledger.report(third, told(7, 0, 0));
  EXPECT_EQ(ledger.others(kA1).rows.at(0).delivered, 47) << "the first has kept its place";
  ledger.attached(kB1);
  ledger.report(kB1, told(40, 30, 30));  // in the first one's place
  EXPECT_EQ(ledger.others({{{4, 4}}, 1}).rows.at(0).delivered, 147);
  EXPECT_EQ(ledger.others(kB1).rows.at(0).delivered, 107);
  EXPECT_EQ(ledger.others(kB1).uses.at(0).tokens, 107);
}

TEST(FairLedger, F4_the_rows_of_one_start_are_bounded) {
  FairLedger ledger{Duration::seconds(15)};
  for (int report = 0; report < 2; ++report) {
    FairReport rows;
    for (std::size_t i = 0; i < kFairRowsMax; ++i) {
      const std::string name = std::to_string(report) + "." + std::to_string(i);
      rows.rows.push_back({"m", false, name, 1, 0, 0, 0, true});
      rows.uses.push_back({name, 1, 1, 0});
    }
    ledger.report(kA1, rows);
  }
  EXPECT_EQ(ledger.rows(), 2 * kFairRowsMax);
  ledger.report(kA1, {{{"m", false, "0.5", 9, 0, 0, 0, true}}, {}, {}});
  const FairReport others = ledger.others(kB1);
  EXPECT_TRUE(std::any_of(others.rows.begin(), others.rows.end(), [](const FairRow& row) {
    return row.tenant == "0.5" && row.delivered == 9;
  })) << "a known one goes on";
}

TEST(FairLedger, F4_absurd_counters_neither_wrap_nor_shrink) {
  FairLedger ledger{Duration::seconds(15)};
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  ledger.report(kA1, told(most, most, 0));
  ledger.report(kB1, told(most, -5, 0));
  EXPECT_EQ(ledger.others({{{3, 3}}, 1}).rows.at(0).delivered, most);
  EXPECT_EQ(ledger.others(kA1).rows.at(0).reserved, 0);
}

}  // namespace
}  // namespace orch::pool
