// Dispatch, its refusals, its breaking, and what a closed call may still say.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

// --- internal outcomes (L3) ---

TEST(Dispatching, L3_an_internal_outcome_puts_the_job_back_at_the_head) {
  for (const Outcome outcome : {Outcome::SLOT_BUSY, Outcome::NO_PAGES, Outcome::DUPLICATE_ATTEMPT}) {
    Bench bench;
    bench.ready(1);
    bench.submit(spec_of(1));
    bench.submit(spec_of(2));
    const Effects effects = bench.failed(bench.dispatches[0], outcome);
    EXPECT_EQ(all_of<NotedRetried>(effects).size(), 1u);
    EXPECT_TRUE(all_of<NotedEnded>(effects).empty());
    bench.advance(ms(100));
    ASSERT_EQ(bench.dispatches.size(), 2u);
    EXPECT_EQ(bench.dispatches[1].dispatch, (DispatchId{job_id(1), 2}));
    EXPECT_TRUE(bench.ends.empty());
  }
}

TEST(Dispatching, L3_a_busy_lease_is_left_alone_for_a_while_that_grows) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.failed(bench.dispatches[0], Outcome::SLOT_BUSY);
  bench.advance(ms(24));
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.advance(ms(1));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  bench.failed(bench.dispatches[1], Outcome::SLOT_BUSY);
  bench.advance(ms(49));
  EXPECT_EQ(bench.dispatches.size(), 2u);
  bench.advance(ms(1));
  EXPECT_EQ(bench.dispatches.size(), 3u);
}

TEST(Dispatching, L3_a_stale_lease_is_not_used_until_it_is_renewed) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.failed(bench.dispatches[0], Outcome::STALE_LEASE);
  bench.grant(1);  // the same renewal again says nothing new
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.advance(ms(5000));
  bench.grant(1);
  EXPECT_EQ(bench.dispatches.size(), 2u);
}

TEST(Dispatching, L3_refusals_end_no_job_before_its_longest_wait) {
  for (const Outcome outcome :
       {Outcome::SLOT_BUSY, Outcome::NO_PAGES, Outcome::REPLICA_EXHAUSTED, Outcome::DUPLICATE_ATTEMPT}) {
    Config config;
    config.limits.queue_wait_max = Duration::seconds(60);
    Bench bench(config);
    bench.ready(1);
    bench.submit(spec_of(1));
    for (int i = 0; i < 59; ++i) {
      bench.failed(bench.dispatches.back(), outcome);
      const std::size_t before = bench.dispatches.size();
      bench.grant(1);
      bench.advance(ms(1000));
      ASSERT_TRUE(bench.ends.empty()) << outcome_row(outcome).code << " after " << i << " s";
      EXPECT_EQ(bench.dispatches.size(), before + 1) << "the pause is bounded, and there is one";
    }
    for (int i = 0; i < 10 && bench.ends.empty(); ++i) {  // what its attempts held a slot is no waiting
      bench.failed(bench.dispatches.back(), outcome);
      bench.grant(1);
      bench.advance(ms(1000));
    }
    ASSERT_EQ(bench.ends.size(), 1u);
    EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::REPLICA_EXHAUSTED) << "its own limit, in its own words";
    EXPECT_NE(bench.ends[0].failure->message.find("waited 60000 ms"), std::string::npos);
  }
}

// --- broken calls ---

// The manager's word that the process of r1 is gone; nothing is said of a fault.
void reaped(Bench& bench, Incarnation inc = {1, 1}) {
  ReplicaView view = ready_replica("r1");
  view.inc = inc;
  view.state = ReplicaState::backoff;
  view.has_process = false;
  bench.step(ReplicaChanged{kLink, view});
}

// r1 is there again, with a slot for us.
void comes_back(Bench& bench, std::uint64_t counter) {
  ReplicaView next = ready_replica("r1");
  next.inc = {1, counter};
  bench.step(ReplicaChanged{kLink, next});
  bench.grant(1, {1, counter}, "r1", {1, counter});
}

TEST(Dispatching, M1_a_call_that_breaks_before_its_first_token_runs_again_once_when_it_is_fenced) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.started(bench.dispatches[0]);
  bench.step(DispatchBroken{bench.dispatches[0].dispatch});
  bench.advance(Duration::seconds(2));
  EXPECT_EQ(bench.dispatches.size(), 1u) << "its worker may still compute";
  reaped(bench);
  comes_back(bench, 2);
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].dispatch.attempt, 2u);
  bench.step(DispatchBroken{bench.dispatches[1].dispatch});
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::WORKER_RESET);
}

// A killed worker's socket refuses the next call at once, long before its manager says a word.
TEST(Dispatching, L10_the_lease_of_a_broken_call_is_left_alone_for_a_second) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.step(DispatchBroken{bench.dispatches[0].dispatch});
  bench.submit(spec_of(2));
  bench.advance(ms(999));
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.advance(ms(1));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].dispatch.job, job_id(2));
}

TEST(Dispatching, L10_without_that_pause_another_job_follows_to_the_same_worker) {
  Config config;
  config.limits.broken_pause = Duration{};
  Bench bench(config);
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.step(DispatchBroken{bench.dispatches[0].dispatch});
  bench.submit(spec_of(2));
  EXPECT_EQ(bench.dispatches.size(), 2u);
}

TEST(Dispatching, M1_another_replica_takes_the_job_once_its_worker_is_gone) {
  Bench bench;
  bench.manager_up({ready_replica("r1"), ready_replica("r2")});
  bench.grant(1, {1, 1}, "r1");
  bench.submit(spec_of(1));
  bench.grant(1, {1, 2}, "r2");
  bench.step(DispatchBroken{bench.dispatches[0].dispatch});
  ASSERT_EQ(bench.dispatches.size(), 1u);
  reaped(bench);
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].endpoint, "unix:/r2");
}

TEST(Dispatching, M4_after_a_token_of_no_numeric_class_there_is_one_error_and_no_second_attempt) {
  Bench bench;
  ReplicaView external = ready_replica();
  external.numeric_class = "none";
  bench.manager_up({external});
  bench.grant(1);
  bench.submit(spec_of(1), ReaderId{1});
  bench.token(bench.dispatches[0], 0, "a");
  const Effects effects = bench.step(DispatchBroken{bench.dispatches[0].dispatch});
  EXPECT_EQ(shown(effects, ReaderId{1}), "3 WORKER_RESET, closed");
  EXPECT_EQ(bench.dispatches.size(), 1u);
}

TEST(Dispatching, L6_a_new_incarnation_loses_the_calls_of_the_old_one) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  const Dispatch old = bench.dispatches[0];
  ReplicaView next = ready_replica();
  next.inc = {1, 2};
  next.state = ReplicaState::starting;
  const Effects effects = bench.step(ReplicaChanged{kLink, next});
  EXPECT_EQ(all_of<CancelDispatch>(effects).size(), 1u);
  EXPECT_EQ(all_of<NotedRetried>(effects).size(), 1u);
  EXPECT_TRUE(all_of<Deliver>(bench.token(old, 0, "late")).empty());
  next.state = ReplicaState::ready;
  bench.step(ReplicaChanged{kLink, next});
  bench.grant(1, {1, 2}, "r1", {1, 2});
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].fence.inc, (Incarnation{1, 2}));
}

TEST(Dispatching, a_workers_own_failure_reaches_the_client_as_it_is) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1), ReaderId{1});
  EXPECT_EQ(shown(bench.failed(bench.dispatches[0], Outcome::NUMERIC_FAULT), ReaderId{1}), "2 NUMERIC_FAULT, closed");
  EXPECT_EQ(bench.ends[0].failure->engine, "native");
  EXPECT_EQ(bench.ends[0].failure->pool_id, "p1");
}

TEST(Dispatching, an_outcome_that_no_stream_may_carry_becomes_internal) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1), ReaderId{1});
  EXPECT_EQ(shown(bench.failed(bench.dispatches[0], Outcome::PAYLOAD_TOO_LARGE), ReaderId{1}), "2 INTERNAL, closed");
}

// --- L10 and order ---

// It is told at the start and at the end; between them the prompt is read on.
TEST(Tokens, OC_ENGINE_1026_what_a_worker_found_of_a_prompt_is_what_it_says_last) {
  for (const auto& [at_start, at_end, counted] : {std::tuple{2u, 6u, 6u}, {2u, 2u, 2u}, {4u, 0u, 4u}}) {
    Bench bench;
    bench.ready(1);
    bench.submit(spec_of(1));
    const Dispatch& call = bench.dispatches.at(0);
    bench.step(DispatchStarted{call.dispatch, call.fence, 7, at_start});
    DispatchFinished end;
    end.dispatch = call.dispatch;
    end.fence = call.fence;
    end.prompt_tokens = 7;
    end.cached_prompt_tokens = at_end;
    bench.step(end);
    EXPECT_EQ(bench.ends.at(0).cached_tokens_in, counted);
  }
}

TEST(Tokens, L10_of_another_fence_or_attempt_change_nothing) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1), ReaderId{1});
  Dispatch forged = bench.dispatches[0];
  forged.fence.secret[0] ^= 1;
  EXPECT_TRUE(all_of<Deliver>(bench.token(forged, 0, "a")).empty());
  bench.step(DispatchBroken{bench.dispatches[0].dispatch});
  comes_back(bench, 2);
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_TRUE(all_of<Deliver>(bench.token(bench.dispatches[0], 0, "a")).empty());
  EXPECT_TRUE(bench.finished(bench.dispatches[0], 1).empty());
  EXPECT_EQ(shown(bench.token(bench.dispatches[1], 0, "a"), ReaderId{1}), "2 token a");
  EXPECT_EQ(bench.core.ignored().closed_fence, 1u);
  EXPECT_EQ(bench.core.ignored().unknown_dispatch, 2u);
}

TEST(Tokens, repeated_ones_are_ignored_and_a_gap_is_a_lost_worker) {
  Bench bench;
  ReplicaView external = ready_replica();
  external.numeric_class = "none";
  bench.manager_up({external});
  bench.grant();
  bench.submit(spec_of(1), ReaderId{1});
  bench.token(bench.dispatches[0], 0, "a");
  EXPECT_TRUE(all_of<Deliver>(bench.token(bench.dispatches[0], 0, "a")).empty());
  EXPECT_EQ(bench.core.ignored().duplicate_tokens, 1u);
  EXPECT_EQ(shown(bench.token(bench.dispatches[0], 2, "c"), ReaderId{1}), "3 WORKER_RESET, closed");
}

TEST(Tokens, J2_ids_without_text_wait_for_the_text_they_complete) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1), ReaderId{1});
  EXPECT_TRUE(all_of<Deliver>(bench.token(bench.dispatches[0], 0, "")).empty());
  const auto delivered = all_of<Deliver>(bench.token(bench.dispatches[0], 1, "ü"));
  ASSERT_EQ(delivered.size(), 1u);
  const auto& token = std::get<TokenEvent>(delivered[0].event->body);
  EXPECT_EQ(token.i, 0u);
  EXPECT_EQ(token.ids, (std::vector<std::uint32_t>{100, 101}));
}

TEST(Tokens, a_worker_that_does_not_stop_is_stopped) {
  Bench bench;
  bench.ready(1);
  JobSpec spec = spec_of(1);
  spec.max_tokens = 2;
  bench.submit(spec, ReaderId{1});
  bench.token(bench.dispatches[0], 0, "a");
  bench.token(bench.dispatches[0], 1, "b");
  const Effects effects = bench.token(bench.dispatches[0], 2, "c");
  EXPECT_EQ(shown(effects, ReaderId{1}), "4 INTERNAL, closed");
  EXPECT_EQ(all_of<CancelDispatch>(effects).size(), 1u);
}

// --- order between jobs ---

TEST(Scheduling, ruling2_classes_share_eight_to_one_and_batch_never_starves) {
  Config config;
  config.queue.capacity = 400;
  Bench bench{config};
  bench.manager_up();
  for (std::uint64_t n = 1; n <= 90; ++n) {
    bench.submit(spec_of(n, Priority::interactive));
    bench.submit(spec_of(1000 + n, Priority::batch));
  }
  bench.grant(1);
  while (bench.dispatches.size() < 90) bench.finished(bench.dispatches.back(), 1);
  const auto batch = std::count_if(bench.dispatches.begin(), bench.dispatches.end(),
                                   [](const Dispatch& d) { return d.dispatch.job >= job_id(1000); });
  EXPECT_EQ(batch, 10);
}

TEST(Scheduling, F1_a_head_without_a_feasible_replica_is_skipped) {
  Bench bench;
  ReplicaView gpu = ready_replica("r2");
  gpu.accelerator = "vulkan";
  bench.manager_up({ready_replica(), gpu});
  JobSpec picky = spec_of(1);
  picky.require_gpu = true;
  bench.submit(picky);
  bench.submit(spec_of(2));
  bench.grant(1);
  ASSERT_EQ(bench.dispatches.size(), 1u);
  EXPECT_EQ(bench.dispatches[0].dispatch.job, job_id(2));
}

TEST(Scheduling, F1_a_job_too_long_for_the_free_replica_does_not_block_the_next) {
  Bench bench;
  ReplicaView small = ready_replica();
  small.ctx_max = 100;
  bench.manager_up({small, ready_replica("r2")});
  JobSpec wide = spec_of(1);
  wide.max_tokens = 500;
  bench.submit(wide);
  bench.submit(spec_of(2));
  bench.grant(1);
  ASSERT_EQ(bench.dispatches.size(), 1u);
  EXPECT_EQ(bench.dispatches[0].dispatch.job, job_id(2));
  bench.grant(1, {1, 2}, "r2");
  EXPECT_EQ(bench.dispatches.back().dispatch.job, job_id(1));
}

}  // namespace
}  // namespace orch::gateway
