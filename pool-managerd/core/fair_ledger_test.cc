// The ledger of service that gateways share: start by start the largest of each counter, and who is told of what.
#include "pool-managerd/core/fair_ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace orch::pool {
namespace {

const Holder kA1{{{1, 1}}, 1};
const Holder kA2{{{1, 1}}, 2};
const Holder kB1{{{2, 2}}, 1};
const Instant kStart{1'000'000'000};

const Holder kC1{{{3, 3}}, 1};

FairReport told(std::int64_t delivered, std::int64_t reserved, std::int64_t released, std::int64_t lift = 0) {
  FairReport out;
  out.rows.push_back({"m", false, "t", delivered, reserved, released, lift, true});
  out.uses.push_back({"t", delivered / 10, delivered, 3});
  out.number = static_cast<std::uint64_t>(delivered);
  return out;
}
StartReport handed_on(const Holder& start, const FairReport& report, bool over = false) {
  return {start, report.number, over, report.rows, report.uses};
}
using Told = std::vector<StartReport>;

TEST(FairLedger, OC_FAIR_F4_a_gateway_hears_of_every_other_start) {
  FairLedger ledger{Duration::seconds(15)};
  EXPECT_FALSE(ledger.knows_others(kA1));
  ledger.report(kA1, told(100, 60, 20, 7));
  EXPECT_FALSE(ledger.knows_others(kA1));
  ledger.report(kB1, told(40, 30, 5, 9));
  EXPECT_TRUE(ledger.knows_others(kA1));
  EXPECT_EQ(ledger.others(kA1, 0), Told{handed_on(kB1, told(40, 30, 5, 9))});
  EXPECT_EQ(ledger.others(kB1, 0), Told{handed_on(kA1, told(100, 60, 20, 7))});
  EXPECT_EQ(ledger.others(kC1, 0), (Told{handed_on(kA1, told(100, 60, 20, 7)), handed_on(kB1, told(40, 30, 5, 9))}));
}

TEST(FairLedger, OC_FAIR_F4_what_has_not_changed_is_not_said_again) {
  FairLedger ledger{Duration::seconds(15)};
  FairReport report = told(100, 60, 20);
  report.rows.push_back({"m", false, "u", 5, 0, 0, 0, true});
  ledger.report(kA1, report);
  ledger.report(kC1, told(40, 30, 5));
  const std::uint64_t version = ledger.version();
  EXPECT_TRUE(ledger.others(kB1, version).empty());
  report.rows[1].delivered = 6;
  report.number = 101;
  ledger.report(kA1, report);
  EXPECT_EQ(ledger.others(kB1, version), Told({{kA1, 101, false, {report.rows[1]}, {}}}));
}

// Reports are whole: whoever is not named in the newest waits no more.
TEST(FairLedger, OC_FAIR_F3_who_is_not_named_any_more_does_not_wait) {
  FairLedger ledger{Duration::seconds(15)};
  FairReport report = told(100, 60, 60);
  report.rows[0].inside = true;
  ledger.report(kA1, report);
  FairReport empty;
  empty.number = 101;
  ledger.report(kA1, empty);
  const StartReport heard = ledger.others(kB1, 0).at(0);
  EXPECT_EQ(heard.rows.at(0), (FairRow{"m", false, "t", 100, 60, 60, 0, false, false}));
  EXPECT_EQ(heard.uses.at(0), (UseRow{"t", 10, 100, 0}));
}

TEST(FairLedger, F4_late_and_repeated_reports_change_nothing) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.report(kA1, told(100, 60, 20));
  FairReport late = told(90, 50, 10);
  late.rows[0].waiting = false;
  late.uses[0].live = 9;
  ledger.report(kA1, late);
  EXPECT_EQ(ledger.others(kB1, 0), Told{handed_on(kA1, told(100, 60, 20))});
}

TEST(FairLedger, F4_a_start_that_is_gone_is_over_after_a_lease_s_life) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.report(kA1, told(100, 60, 20));
  const std::uint64_t version = ledger.version();
  ledger.detached(kA1, kStart);
  ledger.expire(kStart + Duration::seconds(14));
  EXPECT_TRUE(ledger.others(kB1, version).empty());  // it may come back
  EXPECT_EQ(ledger.next_expiry(), kStart + Duration::seconds(15));
  ledger.expire(kStart + Duration::seconds(15));
  EXPECT_EQ(ledger.others(kB1, version), Told({{kA1, 100, true, {}, {}}}));
  EXPECT_EQ(ledger.others(kB1, 0), Told{handed_on(kA1, told(100, 60, 20), true)});
}

TEST(FairLedger, F4_a_later_start_hears_of_its_own_past) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.report(kA1, told(100, 60, 20));
  ledger.attached(kA2);
  ledger.report(kA2, told(5, 0, 0));
  EXPECT_EQ(ledger.others(kA2, 0), Told{handed_on(kA1, told(100, 60, 20), true)});
  EXPECT_EQ(ledger.others(kB1, 0), (Told{handed_on(kA1, told(100, 60, 20), true), handed_on(kA2, told(5, 0, 0))}));
}

// A gateway whose link was broken for longer than a lease lives is the same start as before.
TEST(FairLedger, F4_a_start_that_comes_back_is_the_same_one_and_does_not_hear_itself) {
  FairLedger ledger{Duration::seconds(15)};
  ledger.attached(kA1);
  ledger.report(kA1, told(100, 60, 20));
  ledger.detached(kA1, kStart);
  ledger.expire(kStart + Duration::seconds(15));
  EXPECT_EQ(ledger.next_expiry(), Instant::never()) << "it has expired once";
  const std::uint64_t version = ledger.version();
  ledger.attached(kA1);
  EXPECT_EQ(ledger.others(kB1, version), Told({{kA1, 100, false, {}, {}}})) << "its jobs may have run on";
  EXPECT_TRUE(ledger.others(kA1, 0).empty());
}

TEST(FairLedger, F4_the_one_that_is_gone_longest_makes_room) {
  FairLedger ledger{Duration::seconds(15), 2};
  ledger.report(kA1, told(100, 60, 20));
  ledger.report(kB1, told(40, 30, 5));
  ledger.report(kC1, told(7, 0, 0));
  EXPECT_EQ(ledger.others(kC1, 0).size(), 2u) << "there is no room, and nobody is gone";
  EXPECT_EQ(ledger.others(kA1, 0), Told{handed_on(kB1, told(40, 30, 5))});
  ledger.detached(kA1, kStart + Duration::seconds(1));
  ledger.detached(kB1, kStart);
  ledger.report(kC1, told(7, 0, 0));
  EXPECT_EQ(ledger.others(kA1, 0), Told{handed_on(kC1, told(7, 0, 0))}) << "the first has kept its place";
  ledger.attached(kA2);
  ledger.detached(kC1, kStart);
  ledger.report(kB1, told(40, 30, 5));
  EXPECT_EQ(ledger.others(kA1, 0), (Told{handed_on(kB1, told(40, 30, 5)), handed_on(kC1, told(7, 0, 0))}))
      << "one that was replaced goes first";
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
  const std::vector<FairRow> rows = ledger.others(kB1, 0).at(0).rows;
  EXPECT_TRUE(std::any_of(rows.begin(), rows.end(), [](const FairRow& row) {
    return row.tenant == "0.5" && row.delivered == 9;
  })) << "a known one goes on";
}

TEST(FairLedger, F4_no_counter_is_below_zero) {
  FairLedger ledger{Duration::seconds(15)};
  FairReport absurd = told(-5, -5, -5, -5);
  absurd.uses[0].live = -1;
  ledger.report(kA1, absurd);
  const StartReport heard = ledger.others(kB1, 0).at(0);
  EXPECT_EQ(heard.rows.at(0), (FairRow{"m", false, "t", 0, 0, 0, 0, true}));
  EXPECT_EQ(heard.uses.at(0), (UseRow{"t", 0, 0, 0}));
}

}  // namespace
}  // namespace orch::pool
