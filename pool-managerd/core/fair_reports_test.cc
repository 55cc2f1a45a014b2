// Who is told of the others' service, when, and in how many messages (F4).
#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

// Orchestrators 1 to 3 attached on links 1 to 3.
struct FairReports : ::testing::Test {
  FairReports() : world(one_replica()) {
    world.start();
    for (const std::uint64_t n : {1u, 2u, 3u}) {
      world.holders[n] = orch_at(n);
      world.attach(n, orch_at(n));
    }
  }
  void reports(std::uint64_t link, std::uint64_t number, std::size_t rows = 1) {
    FairReport report;
    report.number = number;
    for (std::size_t i = 0; i < rows; ++i) {
      const std::int64_t delivered = static_cast<std::int64_t>(number);
      report.rows.push_back({"m", false, "t" + std::to_string(i), delivered, delivered, delivered, 0, true, true});
    }
    world.step(FairReported{.link = {link}, .report = report});
  }
  // What the link was told since the last call, by start.
  std::vector<std::vector<StartReport>> told(std::uint64_t link) {
    std::vector<std::vector<StartReport>> out;
    for (const SendOthers& each : world.sent<SendOthers>()) {
      if (each.link == LinkId{link}) out.push_back(each.others.starts);
    }
    const std::size_t known = std::exchange(seen[link], out.size());
    return {out.begin() + static_cast<std::ptrdiff_t>(known), out.end()};
  }
  World world;
  std::map<std::uint64_t, std::size_t> seen;
};

TEST_F(FairReports, OC_FAIR_F4_a_link_hears_what_is_new_at_most_every_interval) {
  world.run(Duration::milliseconds(100));  // when they attached they were told, if of nothing
  reports(1, 5);
  ASSERT_EQ(told(2).size(), 1u);
  EXPECT_TRUE(told(1).empty()) << "nobody else has said anything yet";
  reports(3, 7);
  EXPECT_TRUE(told(2).empty()) << "the interval is not over";
  world.run(Duration::milliseconds(100));
  const auto next = told(2);
  ASSERT_EQ(next.size(), 1u);
  ASSERT_EQ(next[0].size(), 1u) << "of the first nothing is new";
  EXPECT_EQ(next[0][0].start, orch_at(3));
  world.attach(4, orch_at(4));
  const auto all = told(4);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].size(), 2u) << "a new link hears everything";
}

// It merges on that: what the others do not use is not held back (OC-QUOTA-1005).
TEST_F(FairReports, OC_FAIR_F4_a_report_is_answered_also_when_the_others_are_quiet) {
  reports(2, 5);
  world.run(Duration::milliseconds(200));
  told(1);
  reports(1, 7);
  const auto answer = told(1);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_TRUE(answer[0].empty());
  reports(1, 8);
  EXPECT_TRUE(told(1).empty()) << "the interval is not over";
  world.run(Duration::milliseconds(100));
  EXPECT_EQ(told(1).size(), 1u);
  world.run(Duration::seconds(60));
  EXPECT_TRUE(told(1).empty()) << "nobody has said anything since";
}

TEST_F(FairReports, OC_FAIR_F4_the_only_gateway_hears_of_its_own_past) {
  reports(1, 5);
  world.detach(2);
  world.detach(3);
  world.attach(4, orch_at(1, 2));
  const auto past = told(4);
  ASSERT_EQ(past.size(), 1u);
  EXPECT_EQ(past[0].at(0).start, orch_at(1));
  EXPECT_TRUE(past[0].at(0).over);
}

TEST_F(FairReports, OC_FAIR_F4_what_is_too_much_for_a_message_comes_in_several) {
  world.detach(3);
  world.run(Duration::milliseconds(100));
  reports(1, 5, kFairRowsMax);
  world.attach(5, orch_at(5));
  reports(5, 5, kFairRowsMax - 1);
  world.attach(6, orch_at(6));
  reports(6, 5, 1);
  world.attach(7, orch_at(7));
  const auto parts = told(7);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].size(), 1u);
  EXPECT_EQ(parts[1].size(), 2u) << "together they are as much as one may report";
}

}  // namespace
}  // namespace orch::pool
