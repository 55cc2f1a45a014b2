// What other starts of gateways have served and used, and the sums over them (F4).
#include "orchestratord/core/other_starts.h"

#include <gtest/gtest.h>

#include <limits>

namespace orch::gateway {
namespace {

const Holder kA1{OrchId{{1, 1}}, 1};
const Holder kA2{OrchId{{1, 1}}, 2};
const Holder kB1{OrchId{{2, 2}}, 1};
const Holder kC1{OrchId{{3, 3}}, 1};
constexpr LinkId kFirst{1};  // to two managers
constexpr LinkId kSecond{2};

// Of the tenant t; waiting, with three live jobs.
StartReport said(const Holder& start, std::uint64_t number, std::int64_t delivered, std::int64_t rho = 0) {
  StartReport out{start, number, false, {}, {}};
  out.rows.push_back({"m", false, "t", delivered, delivered + rho, delivered, 0, true, true});
  out.uses.push_back({"t", delivered / 10, delivered, 3});
  return out;
}
StartReport over(StartReport report) {
  report.over = true;
  return report;
}
FairRow row_of(const OthersNews& news) { return news.rows.empty() ? FairRow{} : news.rows.at(0); }
std::int64_t rho_of(const OthersNews& news) { return row_of(news).reserved - row_of(news).released; }

TEST(OtherStarts, OC_FAIR_F4_the_sum_is_over_all_starts_whoever_tells_of_them) {
  OtherStarts others;
  EXPECT_EQ(row_of(others.hear(kFirst, said(kA1, 1, 100, 10))).delivered, 100);
  const OthersNews both = others.hear(kFirst, said(kB1, 1, 40, 5));
  EXPECT_EQ(row_of(both), (FairRow{"m", false, "t", 140, 155, 140, 0, true, true}));
  EXPECT_EQ(both.uses.at(0).live, 6);
  EXPECT_EQ(row_of(others.hear(kSecond, said(kA1, 1, 100, 10))).delivered, 140) << "another manager knows it too";
}

// A manager that has begun anew knows no start that is over, and hides nothing of what is served now.
TEST(OtherStarts, OC_FAIR_F4_what_a_manager_has_forgotten_hides_nothing) {
  OtherStarts others;
  others.hear(kFirst, over(said(kA1, 50, 1000)));
  others.hear(kFirst, said(kA2, 1, 10));
  EXPECT_EQ(row_of(others.hear(kFirst, said(kA2, 2, 30))).delivered, 1030);
}

TEST(OtherStarts, OC_FAIR_F4_an_older_word_changes_nothing) {
  OtherStarts others;
  others.hear(kFirst, said(kA1, 7, 100, 10));
  StartReport late = over(said(kA1, 6, 90, 0));
  late.rows[0].waiting = late.rows[0].inside = false;
  late.uses[0].live = 9;
  const OthersNews news = others.hear(kFirst, late);
  EXPECT_EQ(row_of(news), (FairRow{"m", false, "t", 100, 110, 100, 0, true, true}));
  EXPECT_EQ(news.uses.at(0).live, 3);
  EXPECT_EQ(news.uses.at(0).tokens, 0);
}

TEST(OtherStarts, OC_FAIR_F4_of_a_start_that_is_over_the_service_stays) {
  OtherStarts others;
  others.hear(kFirst, said(kA1, 1, 100, 10));
  const OthersNews gone = others.hear(kFirst, {kA1, 1, true, {}, {}});
  EXPECT_EQ(row_of(gone).delivered, 100);
  EXPECT_EQ(rho_of(gone), 0);
  EXPECT_FALSE(row_of(gone).waiting);
  EXPECT_FALSE(row_of(gone).inside);
  EXPECT_EQ(gone.uses.at(0).live, 0);
  const OthersNews back = others.hear(kFirst, {kA1, 1, false, {}, {}});
  EXPECT_EQ(rho_of(back), 10);
  EXPECT_EQ(back.uses.at(0).live, 3);
  EXPECT_EQ(back.uses.at(0).tokens, 0) << "it counts once";
}

// The link of one manager to it broke.
TEST(OtherStarts, OC_FAIR_F4_a_start_is_over_when_all_managers_that_know_best_say_so) {
  OtherStarts others;
  others.hear(kFirst, said(kA1, 7, 100, 10));
  others.hear(kSecond, said(kA1, 7, 100, 10));
  const OthersNews one = others.hear(kFirst, {kA1, 7, true, {}, {}});
  EXPECT_TRUE(one.rows.empty()) << "the second knows as much";
  EXPECT_TRUE(one.uses.empty());
  const OthersNews both = others.hear(kSecond, {kA1, 7, true, {}, {}});
  EXPECT_EQ(rho_of(both), 0);
  EXPECT_EQ(both.uses.at(0).live, 0);
  const OthersNews back = others.hear(kSecond, {kA1, 8, false, {}, {}});
  EXPECT_EQ(rho_of(back), 10) << "the second knows better";
  EXPECT_EQ(back.uses.at(0).live, 3);
}

TEST(OtherStarts, OC_FAIR_F4_who_has_an_older_report_does_not_keep_a_start_alive) {
  OtherStarts others;
  others.hear(kFirst, said(kA1, 6, 100, 10));
  others.hear(kSecond, said(kA1, 7, 100, 10));
  EXPECT_TRUE(others.hear(kFirst, {kA1, 6, true, {}, {}}).uses.empty());
  EXPECT_EQ(others.hear(kSecond, {kA1, 7, true, {}, {}}).uses.at(0).live, 0);
  OtherStarts behind;
  behind.hear(kFirst, said(kA1, 6, 100, 10));
  behind.hear(kSecond, said(kA1, 7, 100, 10));
  EXPECT_EQ(behind.hear(kSecond, {kA1, 7, true, {}, {}}).uses.at(0).live, 0);
}

// It may be gone together with the start: with the host of both.
TEST(OtherStarts, OC_FAIR_F4_a_manager_that_is_gone_keeps_no_start_alive) {
  OtherStarts others;
  others.hear(kFirst, said(kA1, 6, 100, 10));
  others.hear(kSecond, said(kA1, 7, 100, 10));
  others.hear(kFirst, {kA1, 6, true, {}, {}});
  const OthersNews gone = others.ended(kSecond);
  EXPECT_EQ(rho_of(gone), 0);
  EXPECT_EQ(row_of(gone).delivered, 100);
  EXPECT_EQ(gone.uses.at(0).live, 0);
  const OthersNews back = others.hear(LinkId{3}, said(kA1, 7, 100, 10));
  EXPECT_EQ(rho_of(back), 10);
  EXPECT_EQ(back.uses.at(0).live, 3);
  EXPECT_TRUE(others.ended(kFirst).uses.empty());
  EXPECT_TRUE(others.ended(LinkId{3}).uses.empty()) << "nobody knows any more, and it stands as it was";
}

// A manager does not repeat what has not changed; the second has heard more in between, and then no more.
TEST(OtherStarts, OC_FAIR_F4_who_knows_best_is_believed_in_what_it_does_not_repeat) {
  const auto with = [](std::uint64_t number, bool waiting, std::int64_t live) {
    StartReport report = said(kA1, number, 100);
    report.rows[0].waiting = report.rows[0].inside = waiting;
    report.uses[0].live = live;
    return report;
  };
  for (const bool busy : {true, false}) {
    OtherStarts others;
    others.hear(kFirst, with(10, busy, busy ? 5 : 0));
    const OthersNews second = others.hear(kSecond, with(15, !busy, 3));
    EXPECT_EQ(row_of(second).waiting, !busy);
    EXPECT_EQ(second.uses.at(0).live, 3);
    EXPECT_TRUE(others.hear(kFirst, {kA1, 14, false, {}, {}}).rows.empty());
    EXPECT_TRUE(others.ended(kSecond).rows.empty()) << "nobody knows better yet";
    const OthersNews better = others.hear(kFirst, {kA1, 20, false, {}, {}});
    EXPECT_EQ(row_of(better), (FairRow{"m", false, "t", 100, 100, 100, 0, busy, busy}));
    ASSERT_EQ(better.uses.size(), 1u);
    EXPECT_EQ(better.uses[0].live, busy ? 5 : 0);
    EXPECT_EQ(better.uses[0].tokens, 0);
    EXPECT_TRUE(others.hear(kFirst, {kA1, 21, false, {}, {}}).rows.empty()) << "nothing is new";
  }
}

TEST(OtherStarts, OC_FAIR_F4_who_knows_best_and_has_not_named_a_row_knows_of_nothing_in_it) {
  OtherStarts others;
  others.hear(kFirst, said(kA1, 10, 100, 10));
  const OthersNews better = others.hear(kSecond, {kA1, 11, false, {}, {}});
  EXPECT_EQ(row_of(better), (FairRow{"m", false, "t", 100, 110, 100, 0, false, false}));
  EXPECT_EQ(better.uses.at(0).live, 0);
}

TEST(OtherStarts, OC_FAIR_F4_a_later_start_ends_the_earlier_one_whatever_managers_say) {
  OtherStarts others;
  others.hear(kFirst, said(kA1, 5, 100, 10));
  others.hear(kFirst, said(kB1, 1, 1, 2));
  const OthersNews later = others.hear(kFirst, {kA2, 1, false, {}, {}});
  EXPECT_EQ(row_of(later).delivered, 101);
  EXPECT_EQ(rho_of(later), 2);
  EXPECT_EQ(later.uses.at(0).live, 3);
  EXPECT_EQ(rho_of(others.hear(kFirst, said(kA1, 6, 110, 20))), 2) << "a manager has not seen the later one";
  const OthersNews tardy = others.hear(kFirst, said({kA2.orch, 0}, 9, 7, 7));
  EXPECT_EQ(row_of(tardy).delivered, 118);
  EXPECT_EQ(rho_of(tardy), 2);
}

TEST(OtherStarts, OC_QUOTA_1005_use_grows_start_by_start_and_the_first_word_is_its_past) {
  OtherStarts others;
  const OthersUse first = others.hear(kFirst, said(kA1, 1, 500)).uses.at(0);
  EXPECT_TRUE(first.first);
  EXPECT_EQ(first.tokens, 500);
  EXPECT_EQ(first.requests, 50);
  StartReport next = said(kA1, 2, 520);
  next.uses.push_back({"new", 1, 9, 1});
  const OthersNews news = others.hear(kFirst, next);
  EXPECT_EQ(news.uses.at(0).tokens, 20);
  EXPECT_FALSE(news.uses.at(0).first);
  EXPECT_EQ(news.uses.at(1).tokens, 9) << "it was not used before";
  EXPECT_FALSE(news.uses.at(1).first);
  EXPECT_TRUE(others.hear(kFirst, said(kB1, 1, 7)).uses.at(0).first);
}

TEST(OtherStarts, OC_FAIR_F4_one_that_is_over_makes_room_and_its_service_stays) {
  OtherStarts others{Mutation::none, 2};
  others.hear(kFirst, said(kA1, 1, 100, 10));
  others.hear(kFirst, said(kB1, 1, 40, 5));
  EXPECT_TRUE(others.hear(kFirst, said(kC1, 1, 7)).rows.empty()) << "there is no room, and nobody is gone";
  others.hear(kFirst, over({kA1, 1, true, {}, {}}));
  EXPECT_EQ(row_of(others.hear(kFirst, said(kC1, 1, 7))).delivered, 147);
  EXPECT_EQ(others.starts(), 2u);
  EXPECT_TRUE(others.hear(kFirst, said(kA1, 2, 101)).rows.empty()) << "it would count twice";
  const OthersNews all = others.hear(kFirst, said(kC1, 2, 8));
  EXPECT_EQ(row_of(all).delivered, 148);
  EXPECT_EQ(rho_of(all), 5);
}

TEST(OtherStarts, OC_FAIR_F4_of_those_that_made_room_the_first_are_forgotten_first) {
  OtherStarts others{Mutation::none, 1};
  const auto start = [](std::uint64_t n) { return Holder{OrchId{{9, 5000 - n}}, 1}; };  // the later the smaller
  std::uint64_t n = 0;
  for (; n < 1500; ++n) others.hear(kFirst, over(said(start(n), 1, 1)));
  EXPECT_TRUE(others.hear(kFirst, said(start(n - 3), 2, 2)).rows.empty()) << "it would count twice";
  EXPECT_EQ(row_of(others.hear(kFirst, said(start(n), 1, 1))).delivered, static_cast<std::int64_t>(n) + 1);
}

TEST(OtherStarts, OC_FAIR_F4_the_rows_of_a_start_are_bounded) {
  OtherStarts others;
  StartReport many{kA1, 1, false, {}, {}};
  for (std::size_t i = 0; i <= kFairRowsMax; ++i) {
    many.rows.push_back({"m", false, std::to_string(i), 1, 0, 0, 0, true, true});
    many.uses.push_back({std::to_string(i), 1, 1, 1});
  }
  const OthersNews news = others.hear(kFirst, many);
  EXPECT_EQ(news.rows.size(), kFairRowsMax);
  EXPECT_EQ(news.uses.size(), kFairRowsMax);
}

TEST(OtherStarts, OC_FAIR_F4_absurd_counters_neither_wrap_nor_go_below_zero) {
  OtherStarts others;
  const std::int64_t most = std::numeric_limits<std::int64_t>::max();
  StartReport absurd{kA1, 1, false, {{"m", false, "t", most, most, -5, most, true, true}}, {{"t", most, most, most}}};
  others.hear(kFirst, absurd);
  absurd.start = kB1;
  const OthersNews news = others.hear(kFirst, absurd);
  EXPECT_GT(row_of(news).delivered, most / 8);
  EXPECT_LT(row_of(news).delivered, most / 2);
  EXPECT_LT(row_of(news).lift, most / 2);
  EXPECT_EQ(row_of(news).released, 0);
  EXPECT_GT(news.uses.at(0).live, 0);
}

}  // namespace
}  // namespace orch::gateway
