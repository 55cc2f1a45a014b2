// The ledger of service that gateways share: largest per start, sum of the others, and what is left of the gone.
#include "pool-managerd/core/fair_ledger.h"

#include <gtest/gtest.h>

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
