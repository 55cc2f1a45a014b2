// The small parts by themselves: lifecycle table, class weights, placement's explanation.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/job.h"
#include "orchestratord/core/placement.h"

namespace orch::gateway {
namespace {

using namespace testing;

TEST(JobState, every_change_is_in_the_table_and_ended_is_final) {
  const JobState all[] = {JobState::admitting, JobState::committing, JobState::waiting, JobState::dispatching,
                          JobState::running,   JobState::concluding, JobState::ended};
  std::string table;
  for (const JobState from : all) {
    for (const JobState to : all) {
      if (may_move(from, to)) table += std::string(job_state_name(from)) + ">" + job_state_name(to) + " ";
    }
  }
  EXPECT_EQ(table,
            "admitting>committing admitting>waiting committing>waiting waiting>dispatching waiting>concluding "
            "dispatching>waiting dispatching>running dispatching>concluding running>waiting running>concluding "
            "concluding>waiting concluding>ended ");
}

// --- placement ---

struct Site {
  Fleet fleet{Limits{}};
  LeaseTable leases{Limits{}, Mutation::none};
  Instant now{1'000'000'000};
  Config config;

  void add(const std::string& id, std::uint32_t slots, std::uint32_t in_use) {
    std::uint64_t previous = 0;
    const std::uint64_t n = ++count;
    ManagerUp up{LinkId{n}, ManagerId{{0xD0, n}}, 1, {ready_replica(id)}};
    ASSERT_TRUE(fleet.attach(up, &previous));
    LeaseGranted grant{LinkId{n}, {1, n}, id, {1, 1}, slots, {}, 1, ms(15000)};
    const LeaseKey key{up.manager, {1, n}};
    ASSERT_TRUE(leases.apply(key, grant, "unix:/" + id, now, now));
    for (std::uint32_t i = 0; i < in_use; ++i) leases.take_slot(key);
  }
  std::uint64_t count = 0;
};

TEST(Placement, OC_CORE_1012_least_loaded_wins_and_the_explanation_names_all) {
  Site room;
  room.add("a", 2, 2);
  room.add("b", 4, 2);
  room.add("c", 4, 1);
  const PlacementDecision decision = place({"m", {}, false, false}, 50, room.fleet, room.leases, room.now, room.config);
  ASSERT_TRUE(decision.lease);
  EXPECT_EQ(decision.considered, 3u);
  ASSERT_EQ(decision.candidates.size(), 3u);
  EXPECT_EQ(decision.candidates[0].verdict, Verdict::no_free_slot);
  EXPECT_EQ(decision.candidates[1].verdict, Verdict::feasible);
  EXPECT_EQ(decision.candidates[2].verdict, Verdict::chosen);
  EXPECT_EQ(decision.candidates[2].free_slots, 3u);
}

TEST(Placement, the_explanation_is_bounded_and_still_names_the_winner) {
  Site room;
  room.config.limits.placement_candidates_max = 2;
  for (int i = 0; i < 5; ++i) room.add("r" + std::to_string(i), 1, 1);
  room.add("winner", 1, 0);
  const PlacementDecision decision = place({"m", {}, false, false}, 50, room.fleet, room.leases, room.now, room.config);
  ASSERT_EQ(decision.candidates.size(), 2u);
  EXPECT_EQ(decision.candidates[1].replica_id, "winner");
  EXPECT_EQ(decision.considered, 6u);
}

TEST(Placement, ctx_too_small_is_said) {
  Site room;
  room.add("a", 1, 0);
  const PlacementDecision decision =
      place({"m", {}, false, false}, 1001, room.fleet, room.leases, room.now, room.config);
  EXPECT_FALSE(decision.lease);
  EXPECT_EQ(decision.candidates.at(0).verdict, Verdict::context_too_small);
}

}  // namespace
}  // namespace orch::gateway
