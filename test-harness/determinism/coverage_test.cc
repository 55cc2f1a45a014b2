// What a run of the grid lacks is named, each part by itself.
#include "determinism/coverage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace orch::determinism {
namespace {

// A cell that went through everything, in a batch of `batch`.
Trace whole(std::uint32_t batch) {
  Trace out;
  out.cached_tokens = out.job_cached_tokens = 32;
  out.preemptions = 1;
  out.drafted = 2;
  out.drafts_accepted = 1;
  out.batch = batch;
  out.logits[256] = {{1.0F}, true, true};
  return out;
}

Coverage of(const std::vector<Trace>& traces) {
  Coverage out;
  for (const Trace& trace : traces) out.add(Cell{}, trace, true);
  return out;
}

TEST(Coverage, a_run_that_went_through_everything_lacks_nothing) {
  EXPECT_TRUE(of({whole(2), whole(4), whole(8), whole(16), whole(32), whole(64)}).missing().empty());
}

TEST(Coverage, a_batch_that_no_cell_reached_is_named) {
  EXPECT_THAT(of({whole(2), whole(4), whole(8), whole(16), whole(32), whole(21)}).missing(),
              testing::ElementsAre("a batch of 64 that draw together"));
}

TEST(Coverage, rows_in_the_first_split_alone_are_not_enough) {
  std::vector<Trace> traces = {whole(2), whole(4), whole(8), whole(16), whole(32), whole(64)};
  for (Trace& trace : traces) trace.logits = {{255, {{1.0F}, true, true}}};
  EXPECT_EQ(of(traces).missing().size(), 5U);
  traces[0].logits[256] = {{1.0F}, false, true};
  EXPECT_THAT(of(traces).missing(), testing::ElementsAre("a row behind the first attention split that was drafted"));
}

}  // namespace
}  // namespace orch::determinism
