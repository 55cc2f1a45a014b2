// Jobs that go on elsewhere after their worker was lost mid-stream (M1 to M7).
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

// Two replicas of one set, one slot each; the job runs on the first and has shown two tokens to reader 1.
struct Fleet2 : Bench {
  explicit Fleet2(const Config& config = {}) : Bench(config) {
    manager_up({ready_replica("r1"), ready_replica("r2")});
    grant(1, {1, 1}, "r1");
    submit(spec_of(1), ReaderId{1});
    token(dispatches.at(0), 0, "a");
    token(dispatches.at(0), 1, "b");
    grant(1, {1, 2}, "r2");
  }
  Effects restarted(const std::string& id, std::uint64_t counter) {
    ReplicaView view = ready_replica(id);
    view.inc = {1, counter};
    view.state = ReplicaState::starting;
    return step(ReplicaChanged{kLink, view});
  }
};

TEST(Migration, M2_it_goes_on_behind_the_shown_ids_and_the_reader_sees_one_stream) {
  Fleet2 fleet;
  fleet.step(DispatchBroken{fleet.dispatches[0].dispatch});
  fleet.restarted("r1", 2);
  ASSERT_EQ(fleet.dispatches.size(), 2u);
  const Dispatch& second = fleet.dispatches[1];
  EXPECT_EQ(second.endpoint, "unix:/r2");
  EXPECT_EQ(second.resume_ids, (std::vector<std::uint32_t>{100, 101}));
  EXPECT_EQ(second.dispatch.attempt, 2u);
  Effects told = fleet.token(second, 2, "c");
  const Effects end = fleet.finished(second, 3);
  told.insert(told.end(), end.begin(), end.end());
  EXPECT_EQ(shown(told, ReaderId{1}), "4 token c, 5 end, closed");
  ASSERT_EQ(fleet.ends.size(), 1u);
  EXPECT_EQ(fleet.ends[0].tokens_out, 3u) << "M7: each token once";
}

TEST(Migration, M1_not_before_the_old_attempt_is_fenced) {
  Fleet2 fleet;
  fleet.step(DispatchBroken{fleet.dispatches[0].dispatch});
  fleet.advance(Duration::seconds(10));
  EXPECT_EQ(fleet.dispatches.size(), 1u) << "its worker may still compute";
  Fleet2 reaped;
  reaped.step(DispatchBroken{reaped.dispatches[0].dispatch});
  reaped.restarted("r2", 2);
  EXPECT_EQ(reaped.dispatches.size(), 1u) << "another process's life proves nothing";
  Fleet2 told;
  told.failed(told.dispatches[0], Outcome::POOL_UNREADY);
  EXPECT_EQ(told.dispatches.size(), 2u) << "the worker itself said so";
}

TEST(Migration, M1_a_worker_nobody_speaks_of_is_over_with_its_lease) {
  Fleet2 fleet;
  fleet.step(DispatchBroken{fleet.dispatches[0].dispatch});
  for (int i = 0; i < 16 && fleet.dispatches.size() < 2; ++i) {
    fleet.advance(Duration::seconds(1));
    fleet.grant(1, {1, 2}, "r2");
  }
  ASSERT_EQ(fleet.dispatches.size(), 2u);
  EXPECT_EQ(fleet.dispatches[1].endpoint, "unix:/r2");
}

TEST(Migration, L10_what_the_old_attempt_still_says_changes_nothing) {
  Fleet2 fleet;
  fleet.failed(fleet.dispatches[0], Outcome::POOL_UNREADY);
  EXPECT_EQ(shown(fleet.token(fleet.dispatches[0], 2, "x"), ReaderId{1}), "");
  EXPECT_EQ(shown(fleet.token(fleet.dispatches[1], 2, "c"), ReaderId{1}), "4 token c");
}

TEST(Migration, M1_another_replica_of_the_set_proves_nothing) {
  Bench bench;
  bench.manager_up({ready_replica("r1"), ready_replica("r2"), ready_replica("r3")});
  bench.grant(1, {1, 1}, "r1");
  bench.submit(spec_of(1));
  bench.grant(1, {1, 3}, "r3");
  bench.step(DispatchBroken{bench.dispatches.at(0).dispatch});
  const auto restarted = [&](const std::string& id) {
    ReplicaView view = ready_replica(id);
    view.inc = {1, 2};
    view.state = ReplicaState::starting;
    bench.step(ReplicaChanged{kLink, view});
  };
  restarted("r2");
  EXPECT_EQ(bench.dispatches.size(), 1u);
  restarted("r1");
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].endpoint, "unix:/r3");
}

TEST(Migration, M1_the_word_of_an_earlier_attempt_is_not_that_of_the_last) {
  Config config;
  config.limits.losses_max = 5;
  config.limits.broken_retries_max = 3;
  Bench bench(config);
  bench.manager_up({ready_replica("r1"), ready_replica("r2"), ready_replica("r3")});
  bench.grant(1, {1, 1}, "r1");
  bench.submit(spec_of(1));
  bench.grant(1, {1, 2}, "r2");
  ReplicaView next = ready_replica("r1");
  next.inc = {1, 2};
  next.state = ReplicaState::starting;
  bench.step(ReplicaChanged{kLink, next});
  ASSERT_EQ(bench.dispatches.size(), 2u) << "the first process is gone";
  bench.step(DispatchBroken{bench.dispatches[1].dispatch});
  bench.grant(1, {1, 3}, "r3");
  ASSERT_EQ(bench.dispatches.size(), 2u) << "the second may still compute";
  bench.failed(bench.dispatches[0], Outcome::CANCELED);
  EXPECT_EQ(bench.dispatches.size(), 2u);
}

TEST(Migration, M1_a_gap_in_the_tokens_is_no_proof_that_the_attempt_has_stopped) {
  Bench bench;
  bench.manager_up({ready_replica("r1"), ready_replica("r2")});
  bench.grant(1, {1, 1}, "r1");
  bench.submit(spec_of(1));
  bench.grant(1, {1, 2}, "r2");
  const Dispatch first = bench.dispatches.at(0);
  EXPECT_EQ(all_of<CancelDispatch>(bench.token(first, 3, "x")).size(), 1u);
  EXPECT_EQ(bench.dispatches.size(), 1u) << "its worker was only asked to stop";
  bench.failed(first, Outcome::CANCELED);
  EXPECT_EQ(bench.dispatches.size(), 2u);
}

// Does a job of r1 that has shown a token go on at r2?
bool goes_on(const ReplicaView& r1, const ReplicaView& r2) {
  Bench bench;
  bench.manager_up({r1, r2});
  bench.grant(1, {1, 1}, "r1");
  bench.submit(spec_of(1));
  bench.token(bench.dispatches.at(0), 0, "a");
  bench.grant(1, {1, 2}, "r2");
  bench.step(LeaseRevoked{kLink, {1, 1}, true});
  bench.failed(bench.dispatches[0], Outcome::POOL_UNREADY);
  return bench.dispatches.size() == 2 && bench.dispatches[1].endpoint == "unix:/r2";
}

TEST(Migration, M3_only_to_a_replica_that_computes_the_same) {
  const ReplicaView r1 = ready_replica("r1");
  EXPECT_TRUE(goes_on(r1, ready_replica("r2")));
  int part = 0;
  for (std::string ReplicaView::* each :
       {&ReplicaView::engine, &ReplicaView::model_digest, &ReplicaView::quant, &ReplicaView::numeric_class,
        &ReplicaView::engine_version, &ReplicaView::sampler_profile_version}) {
    ReplicaView other = ready_replica("r2");
    other.*each = "other";
    EXPECT_FALSE(goes_on(r1, other)) << "part " << part;
    ++part;
  }
}

TEST(Migration, M3_what_no_other_replica_is_known_to_compute_the_same_ends) {
  for (std::string ReplicaView::* each : {&ReplicaView::model_digest, &ReplicaView::numeric_class}) {
    ReplicaView r1 = ready_replica("r1");
    ReplicaView r2 = ready_replica("r2");
    (r1.*each).clear();
    (r2.*each).clear();
    EXPECT_FALSE(goes_on(r1, r2));
  }
}

TEST(Migration, M7_what_is_computed_again_is_told_without_what_was_cached) {
  Fleet2 fleet;
  fleet.started(fleet.dispatches[0]);
  fleet.failed(fleet.dispatches[0], Outcome::POOL_UNREADY);
  ASSERT_EQ(fleet.dispatches.size(), 2u);
  const Dispatch& second = fleet.dispatches[1];
  EXPECT_TRUE(all_of<NotedRecomputed>(fleet.step(DispatchStarted{second.dispatch, second.fence, 7, 4})).empty());
  const auto told = all_of<NotedRecomputed>(fleet.failed(second, Outcome::POOL_UNREADY));
  ASSERT_EQ(told.size(), 1u) << "when the attempt is over";
  EXPECT_EQ(told[0].tokens, 7u + 2u - 4u);
}

// OC-ENGINE-1026: pages that another job filled meanwhile.
TEST(Migration, M7_what_was_found_while_the_prompt_was_fed_is_not_computed_again) {
  Fleet2 fleet;
  fleet.started(fleet.dispatches[0]);
  fleet.failed(fleet.dispatches[0], Outcome::POOL_UNREADY);
  ASSERT_EQ(fleet.dispatches.size(), 2u);
  const Dispatch& second = fleet.dispatches[1];
  fleet.step(DispatchStarted{second.dispatch, second.fence, 7, 4});
  DispatchFinished end;
  end.dispatch = second.dispatch;
  end.fence = second.fence;
  end.prompt_tokens = 7;
  end.completion_tokens = 2;
  end.cached_prompt_tokens = 6;
  const auto told = all_of<NotedRecomputed>(fleet.step(end));
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].tokens, 7u + 2u - 6u);
}

TEST(Migration, M7_F2_tokens_are_charged_once_over_all_attempts) {
  Fleet2 fleet;
  const FlowId flow{"m", Priority::interactive, fleet.core.find_job(job_id(1))->spec.tenant};
  fleet.started(fleet.dispatches[0]);
  fleet.failed(fleet.dispatches[0], Outcome::POOL_UNREADY);
  ASSERT_EQ(fleet.dispatches.size(), 2u);
  fleet.started(fleet.dispatches[1]);
  fleet.token(fleet.dispatches[1], 2, "c");
  fleet.finished(fleet.dispatches[1], 3);
  EXPECT_EQ(fleet.core.fairness().v(flow), (7 + 2 * 3) * kUnit);
}

TEST(Migration, L9_not_during_the_drain_of_the_gateway) {
  Fleet2 fleet;
  fleet.step(DrainBegin{Duration::seconds(30)});
  fleet.failed(fleet.dispatches[0], Outcome::POOL_UNREADY);
  EXPECT_EQ(fleet.dispatches.size(), 1u);
  ASSERT_EQ(fleet.ends.size(), 1u);
  EXPECT_EQ(fleet.ends[0].failure->outcome, Outcome::WORKER_RESET);
}

TEST(Migration, M5_at_most_twice) {
  Fleet2 fleet;
  for (std::uint32_t i = 0; i < 3; ++i) {
    ASSERT_EQ(fleet.dispatches.size(), i + 1);
    fleet.token(fleet.dispatches.back(), 2 + i, "x");
    fleet.failed(fleet.dispatches.back(), Outcome::POOL_UNREADY);
  }
  EXPECT_EQ(fleet.dispatches.size(), 3u);
  ASSERT_EQ(fleet.ends.size(), 1u);
  EXPECT_EQ(fleet.ends[0].failure->outcome, Outcome::WORKER_RESET);
}

TEST(Migration, M5_one_at_a_time_when_few_slots_run) {
  Bench bench;
  bench.manager_up({ready_replica("r1"), ready_replica("r2")});
  bench.grant(2, {1, 1}, "r1");
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  for (int i = 0; i < 2; ++i) bench.token(bench.dispatches[static_cast<std::size_t>(i)], 0, "a");
  bench.grant(2, {1, 2}, "r2");
  bench.failed(bench.dispatches[0], Outcome::POOL_UNREADY);
  bench.failed(bench.dispatches[1], Outcome::POOL_UNREADY);
  ASSERT_EQ(bench.dispatches.size(), 3u);
  bench.token(bench.dispatches[2], 1, "b");
  bench.finished(bench.dispatches[2], 2);
  EXPECT_EQ(bench.dispatches.size(), 4u);
}

TEST(Migration, M6_a_job_takes_down_at_most_two_workers) {
  Fleet2 fleet;
  fleet.step(DispatchBroken{fleet.dispatches[0].dispatch});
  fleet.restarted("r1", 2);
  ASSERT_EQ(fleet.dispatches.size(), 2u);
  fleet.step(DispatchBroken{fleet.dispatches[1].dispatch});
  fleet.restarted("r2", 2);
  EXPECT_EQ(fleet.dispatches.size(), 2u);
  ASSERT_EQ(fleet.ends.size(), 1u);
  EXPECT_EQ(fleet.ends[0].failure->outcome, Outcome::WORKER_RESET);
}

TEST(Migration, F2_text_that_the_end_token_released_is_no_token) {
  const auto delivered = [](bool with_an_id) {
    Fleet2 fleet;
    const Dispatch first = fleet.dispatches.at(0);
    fleet.step(DispatchTokens{first.dispatch, first.fence, 2, {102, 103}, with_an_id ? "EN" : ""});
    if (!with_an_id) fleet.step(DispatchTokens{first.dispatch, first.fence, 4, {}, "EN"});
    fleet.finished(first, 4);
    std::int64_t sum = 0;
    for (const auto& [flow, own] : fleet.core.fairness().own_counters()) sum += own.delivered;
    return sum;
  };
  EXPECT_EQ(delivered(false), delivered(true));
}

}  // namespace
}  // namespace orch::gateway
