// What the gateway makes of the KV memory that managers report.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

// 20 pages of 10 tokens; a job of spec_of() has a prompt of 5 tokens as estimated and expects 5 more: one page.
ReplicaView paged(const std::string& id, std::uint64_t pages_used) {
  ReplicaView view = ready_replica(id);
  view.slots = 4;
  view.kv = {.page_tokens = 10, .pages_total = 20, .pages_used = pages_used};
  return view;
}

// Prompt of 120 tokens as estimated (a quarter of the bytes), with the first token 13 pages.
JobSpec large(std::uint64_t n) {
  JobSpec spec = spec_of(n);
  spec.prompt_bytes = 480;
  spec.max_tokens = 20;
  return spec;
}

// A job of 480 bytes is bound to 200 tokens when it is counted exactly.
struct Paged : Bench {
  explicit Paged(std::uint64_t pages_used) {
    ReplicaView view = paged("r1", pages_used);
    view.token_bytes_expansion = 0.3F;
    manager_up({view});
    grant(4);
  }
  Effects load(std::uint64_t pages_used) { return step(ReplicaLoaded{kLink, "r1", {1, 1}, pages_used}); }
  std::size_t sent_to(std::uint64_t job) const {
    std::size_t count = 0;
    for (const Dispatch& each : dispatches) count += each.dispatch.job == job_id(job) ? 1 : 0;
    return count;
  }
};

TEST(Memory, OC_CORE_1017_a_job_that_no_memory_can_hold_is_refused_at_once) {
  Bench bench;
  bench.manager_up({paged("r1", 0)});
  JobSpec spec = spec_of(1);
  spec.max_tokens = 200;  // the context has 1000
  const Failure failure = refused(bench, spec);
  EXPECT_EQ(code(failure), "CONTEXT_OVERFLOW");
  EXPECT_NE(failure.message.find("200 tokens"), std::string::npos) << failure.message;
  EXPECT_EQ(failure.field, "max_tokens");
  EXPECT_EQ(refusal(bench.submit(spec_of(2))), std::nullopt);
}

TEST(Memory, OC_CORE_1017_a_job_waits_for_memory_and_is_not_sent_to_be_refused) {
  Paged bench(8);  // twelve pages are free
  bench.submit(large(1));
  EXPECT_EQ(bench.dispatches.size(), 0u);
  bench.submit(spec_of(2));  // needs one, and passes
  ASSERT_EQ(bench.dispatches.size(), 1u);
  EXPECT_EQ(bench.dispatches[0].dispatch.job, job_id(2));
  bench.load(7);
  EXPECT_EQ(bench.sent_to(1), 0u) << "the small one is on its way";
  bench.started(bench.dispatches[0]);
  bench.load(7);  // its page is in the count
  EXPECT_EQ(bench.sent_to(1), 1u);
}

TEST(Memory, OC_CORE_1017_small_jobs_do_not_pass_for_ever) {
  Paged bench(8);
  bench.submit(large(1));
  bench.advance(ms(1999));
  bench.submit(spec_of(2));
  EXPECT_EQ(bench.sent_to(2), 1u);
  bench.advance(ms(1));
  bench.load(8);
  bench.submit(spec_of(3));
  EXPECT_EQ(bench.sent_to(3), 0u) << "the replica is held";
  bench.started(bench.dispatches[0]);
  bench.finished(bench.dispatches[0], 5);
  EXPECT_EQ(bench.sent_to(3), 0u);
  bench.load(6);
  EXPECT_EQ(bench.sent_to(1), 1u);
  EXPECT_EQ(bench.sent_to(3), 1u) << "and free again with the same step";
}

TEST(Memory, OC_CORE_1017_who_waited_for_memory_and_left_holds_nothing) {
  Paged bench(8);
  bench.submit(large(1));
  bench.advance(ms(2000));
  bench.load(8);
  bench.submit(spec_of(2));
  EXPECT_EQ(bench.sent_to(2), 0u);
  bench.step(CancelJob{RequestId{99}, job_id(1)});
  EXPECT_EQ(bench.sent_to(2), 1u);
}

TEST(Memory, OC_CORE_1017_a_hold_ends_with_the_life_of_its_replica) {
  Paged bench(8);
  bench.submit(large(1));
  bench.advance(ms(2000));
  bench.load(8);
  ReplicaView next = paged("r1", 0);
  next.inc = {1, 2};
  bench.step(ReplicaChanged{kLink, next});
  bench.grant(4, {1, 2}, "r1", {1, 2});
  bench.submit(spec_of(2));
  EXPECT_EQ(bench.sent_to(1), 1u);
  EXPECT_EQ(bench.sent_to(2), 1u);
}

}  // namespace
}  // namespace orch::gateway
