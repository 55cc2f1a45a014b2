// Admission: model lifecycle, context, queue, what a refusal tells.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

// --- POOL-ADMIT ---

TEST(Admission, POOL_ADMIT_unknown_model_is_404) {
  Bench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.model_ref = "nobody";
  const Failure failure = refused(bench, spec);
  EXPECT_EQ(failure.outcome, Outcome::MODEL_NOT_FOUND);
  EXPECT_EQ(failure.field, "model_ref");
}

TEST(Admission, POOL_ADMIT_a_detached_manager_is_unavailable_and_is_forgotten_in_the_end) {
  Bench bench;
  bench.ready();
  bench.step(ManagerDown{kLink});
  EXPECT_EQ(refused(bench, spec_of(1)).outcome, Outcome::POOL_UNAVAILABLE);
  bench.advance(Duration::seconds(601));
  EXPECT_EQ(refused(bench, spec_of(1)).outcome, Outcome::MODEL_NOT_FOUND);
}

TEST(Admission, POOL_ADMIT_never_ready_is_unready_and_restarting_is_queued) {
  Bench bench;
  ReplicaView replica = ready_replica();
  replica.state = ReplicaState::preloading;
  replica.was_ready = false;
  bench.manager_up({replica});
  const Failure unready = refused(bench, spec_of(1));
  EXPECT_EQ(unready.outcome, Outcome::POOL_UNREADY);
  ASSERT_TRUE(unready.retry_after);
  replica.was_ready = true;
  replica.state = ReplicaState::backoff;
  replica.retry_in = ms(700);
  bench.step(ReplicaChanged{kLink, replica});
  const auto replies = all_of<AdmissionReply>(bench.submit(spec_of(2)));
  const auto* admitted = std::get_if<Admitted>(&replies.at(0).result);
  ASSERT_NE(admitted, nullptr);
  EXPECT_GE(admitted->predicted_start, ms(700));
  for (const ReplicaState state : {ReplicaState::draining, ReplicaState::failed}) {
    replica.state = state;
    bench.step(ReplicaChanged{kLink, replica});
    EXPECT_EQ(refused(bench, spec_of(3)).outcome, Outcome::POOL_UNREADY);
  }
}

TEST(Admission, ORCH3018_require_gpu_never_lands_on_a_cpu) {
  Bench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.require_gpu = true;
  const Failure failure = refused(bench, spec);
  EXPECT_EQ(failure.outcome, Outcome::POOL_UNAVAILABLE);
  EXPECT_EQ(failure.field, "require_gpu");
  ReplicaView gpu = ready_replica("r2");
  gpu.accelerator = "vulkan";
  bench.step(ReplicaChanged{kLink, gpu});
  EXPECT_FALSE(refusal(bench.submit(spec)));
  EXPECT_TRUE(bench.dispatches.empty());  // the CPU lease is free and must not be taken
  bench.grant(1, {1, 2}, "r2");
  ASSERT_EQ(bench.dispatches.size(), 1u);
  EXPECT_EQ(bench.dispatches[0].endpoint, "unix:/r2");
}

TEST(Admission, ruling9_strict_needs_a_numeric_class) {
  Bench bench;
  ReplicaView replica = ready_replica();
  replica.numeric_class = "none";
  bench.manager_up({replica});
  JobSpec spec = spec_of(1);
  spec.determinism = Determinism::strict;
  const Failure failure = refused(bench, spec);
  EXPECT_EQ(failure.outcome, Outcome::INVALID_PARAMS);
  EXPECT_EQ(failure.field, "determinism");
}

TEST(Admission, a_digest_names_the_model_too) {
  Bench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.model_ref = "sha256:abc";
  EXPECT_FALSE(refusal(bench.submit(spec)));
  EXPECT_EQ(bench.dispatches.size(), 1u);
}

// --- context (ruling 13) ---

TEST(Admission, ORCH3014_context_is_judged_by_the_bound_without_counting) {
  Bench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 965;  // 20 bytes + 10 fixed + 5 for the message + 965 = 1000
  const Effects effects = bench.submit(spec);
  EXPECT_TRUE(all_of<CountTokens>(effects).empty());
  EXPECT_FALSE(refusal(effects));
}

TEST(Admission, ORCH3015_near_the_limit_the_prompt_is_counted) {
  for (const bool fits : {true, false}) {
    Bench bench;
    bench.ready();
    JobSpec spec = spec_of(1);
    spec.max_tokens = 966;
    const auto counts = all_of<CountTokens>(bench.submit(spec));
    ASSERT_EQ(counts.size(), 1u);
    EXPECT_EQ(counts[0].endpoint, "unix:/r1");
    EXPECT_EQ(refused(bench, spec_of(1)).outcome, Outcome::CONFLICT);
    const auto failure = refusal(bench.step(TokensCounted{counts[0].request, fits ? 34 : 35}));
    EXPECT_EQ(code(failure), fits ? "none" : "CONTEXT_OVERFLOW");
    if (failure)
      EXPECT_EQ(failure->message, "prompt (35 tokens) and max_tokens (966) together exceed the context of 1000 tokens");
  }
}

TEST(Admission, ORCH3015_an_unanswered_count_leaves_it_to_the_worker) {
  Bench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 980;
  bench.submit(spec);
  EXPECT_FALSE(refusal(bench.advance(Duration::seconds(5))));
  EXPECT_EQ(bench.dispatches.size(), 1u);
}

TEST(Admission, ORCH3014_max_tokens_alone_can_exceed_the_context) {
  Bench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 1000;
  const Failure failure = refused(bench, spec);
  EXPECT_EQ(failure.outcome, Outcome::CONTEXT_OVERFLOW);
  EXPECT_EQ(failure.field, "max_tokens");
  spec.max_tokens = 0;
  EXPECT_EQ(refused(bench, spec).outcome, Outcome::INVALID_PARAMS);
}

TEST(Admission, counting_is_bounded) {
  Config config;
  config.limits.admitting_max = 1;
  Bench bench{config};
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 980;
  bench.submit(spec);
  spec.id = job_id(2);
  EXPECT_EQ(refused(bench, spec).outcome, Outcome::ADMISSION_REJECT);
}

// --- queue ---

TEST(Admission, ORCH2007_a_full_queue_tells_a_measured_retry_after) {
  Config config;
  config.queue.interactive_capacity = 1;
  Bench bench{config};
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  const Failure before = refused(bench, spec_of(3));
  EXPECT_EQ(before.outcome, Outcome::ADMISSION_REJECT);
  EXPECT_EQ(before.policy_label, "reject");
  ASSERT_TRUE(before.retry_after);
  EXPECT_NE(before.message.find("queue.interactive_capacity = 1"), std::string::npos);
  for (std::uint64_t n = 4; n < 30; ++n) {  // one job every 100 ms: the drain rate is measured
    bench.now = bench.now + ms(100);
    bench.finished(bench.dispatches.back(), 1);
    bench.submit(spec_of(n));
  }
  const Failure first = refused(bench, spec_of(100));
  const Failure second = refused(bench, spec_of(101));
  EXPECT_NEAR(first.retry_after->ms_double(), 100, 11);
  EXPECT_NEAR(second.retry_after->ms_double(), 200, 22);  // the second of a window is told to come later
}

// Beside b two of four places are a's quota: with three of its jobs waiting two must leave before it is under it.
TEST(Admission, OC_ADMIT_1001_places_beyond_the_quota_are_waited_for_too) {
  Config config;
  config.queue.interactive_capacity = 4;
  config.queue.capacity = 4;
  for (const std::uint32_t of_a : {2u, 3u}) {
    Bench bench{config};
    bench.ready(1);
    JobSpec spec = spec_of(1);
    spec.tenant = "a";
    bench.submit(spec);
    for (std::uint64_t n = 2; n < 40; ++n) {  // one job of a's every 100 ms
      JobSpec next = spec_of(n);
      next.tenant = "a";
      bench.submit(next);
      bench.now = bench.now + ms(100);
      bench.finished(bench.dispatches.back(), 1);
    }
    for (std::uint64_t n = 100; n < 104; ++n) {
      JobSpec next = spec_of(n);
      next.tenant = n < 100 + of_a ? "a" : "b";
      bench.submit(next);
    }
    JobSpec more = spec_of(200);
    more.tenant = "a";
    EXPECT_NEAR(refused(bench, more).retry_after->ms_double(), of_a == 3 ? 200 : 100, of_a == 3 ? 22 : 11);
  }
}

TEST(Admission, ORCH3005_drop_lru_tells_the_victim) {
  Config config;
  config.queue.batch_capacity = 1;
  Bench bench{config};
  bench.manager_up();
  bench.submit(spec_of(1, Priority::batch));
  const ReaderId reader{9};
  bench.step(OpenStream{reader, job_id(1), std::nullopt});
  const Effects effects = bench.submit(spec_of(2, Priority::batch));
  EXPECT_FALSE(refusal(effects));
  EXPECT_EQ(shown(effects, reader), "2 QUEUE_FULL_DROP_LRU, closed");
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->policy_label, "drop-lru");
  EXPECT_TRUE(bench.ends[0].failure->retry_after);
}

TEST(Admission, ORCH3024_a_used_id_is_a_conflict_while_its_result_is_kept) {
  Bench bench;
  bench.ready();
  bench.submit(spec_of(1));
  EXPECT_EQ(refused(bench, spec_of(1)).outcome, Outcome::CONFLICT);
  bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(refused(bench, spec_of(1)).outcome, Outcome::CONFLICT);
  bench.advance(Duration::seconds(600));
  EXPECT_FALSE(refusal(bench.submit(spec_of(1))));
}

TEST(Admission, ORCH3029_position_and_predicted_start_follow_the_queue) {
  Bench bench;
  bench.ready(1);
  Duration before{-1};
  for (std::uint64_t n = 1; n <= 4; ++n) {
    const auto replies = all_of<AdmissionReply>(bench.submit(spec_of(n)));
    const auto& admitted = std::get<Admitted>(replies.at(0).result);
    EXPECT_EQ(admitted.queue_position, n < 2 ? 0 : n - 2);
    EXPECT_GT(admitted.predicted_start, before);
    before = admitted.predicted_start;
  }
}

}  // namespace
}  // namespace orch::gateway
