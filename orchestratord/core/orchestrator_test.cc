// The straight way through the orchestrator and every end a job can have.
#include "orchestratord/core/orchestrator.h"

#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

TEST(Orchestrator, ORCH2002_a_job_streams_started_tokens_and_one_end) {
  Bench bench;
  bench.ready();
  const ReaderId reader{5};
  Effects all = bench.submit(spec_of(1), reader);
  EXPECT_FALSE(refusal(all));
  ASSERT_EQ(bench.dispatches.size(), 1u);
  const Dispatch d = bench.dispatches[0];
  EXPECT_EQ(d.endpoint, "unix:/r1");
  EXPECT_EQ(d.fence.lease, (LeaseId{1, 1}));
  for (const Effects& some : {bench.started(d), bench.token(d, 0, "a"), bench.token(d, 1, "b"), bench.finished(d, 2)}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  EXPECT_EQ(shown(all, reader), "opened, 1 started, 2 token a, 3 token b, 4 end, closed");
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_FALSE(bench.ends[0].failure);
  EXPECT_EQ(bench.ends[0].tokens_out, 2u);
  EXPECT_EQ(all_of<DeliverServedBy>(all).size(), 1u);
}

TEST(Orchestrator, L3_no_lease_no_dispatch) {
  Bench bench;
  bench.manager_up();
  EXPECT_FALSE(refusal(bench.submit(spec_of(1))));
  EXPECT_TRUE(bench.dispatches.empty());
  bench.grant(1);
  EXPECT_EQ(bench.dispatches.size(), 1u);
}

TEST(Orchestrator, L3_never_more_calls_than_slots) {
  Bench bench;
  bench.ready(2);
  for (std::uint64_t n = 1; n <= 3; ++n) bench.submit(spec_of(n));
  EXPECT_EQ(bench.dispatches.size(), 2u);
  bench.finished(bench.dispatches[0], 1);
  ASSERT_EQ(bench.dispatches.size(), 3u);
  EXPECT_EQ(bench.dispatches[2].dispatch.job, job_id(3));
}

}  // namespace
}  // namespace orch::gateway
