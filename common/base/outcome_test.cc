#include "gen/outcome.h"

#include <gtest/gtest.h>

namespace orch {
namespace {

TEST(Outcome, ORCH_2006_every_code_maps_to_itself_and_its_row) {
  for (std::size_t i = 0; i < kOutcomes.size(); ++i) {
    const OutcomeRow& row = kOutcomes[i];
    EXPECT_EQ(static_cast<std::size_t>(row.outcome), i);
    EXPECT_EQ(outcome_from_code(row.code), row.outcome);
    EXPECT_EQ(&outcome_row(row.outcome), &row);
  }
  EXPECT_FALSE(outcome_from_code("NO_SUCH_CODE").has_value());
}

TEST(Outcome, only_429_is_told_when_to_come_back_by_policy) {
  EXPECT_EQ(outcome_row(Outcome::ADMISSION_REJECT).http_status, 429);
  EXPECT_EQ(outcome_row(Outcome::POOL_UNREADY).http_status, 503);
  EXPECT_TRUE(outcome_row(Outcome::STALE_LEASE).internal);
}

}  // namespace
}  // namespace orch
