// The small parts by themselves: lifecycle table, class weights.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/job.h"

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

}  // namespace
}  // namespace orch::gateway
