// What a request may ask of placement and time, and what is remembered of the decision.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

// --- wishes (OC-CORE-1015) ---

TEST(Admission, OC_CORE_1015_an_impossible_wish_is_refused_by_its_field) {
  Bench bench;
  ReplicaView view = ready_replica();
  view.device_name = "H200";
  bench.manager_up({view});
  const auto refused_with = [&](PlacementWish wish) {
    JobSpec spec = spec_of(1);
    spec.wish = std::move(wish);
    const Failure failure = refused(bench, spec);
    EXPECT_EQ(failure.outcome, Outcome::INVALID_PARAMS);
    return failure.field;
  };
  EXPECT_EQ(refused_with({.pin = "nowhere"}), "placement.pin");
  EXPECT_EQ(refused_with({.devices = {"A100"}}), "placement.devices");
  EXPECT_EQ(refused_with({.prefer = {"nowhere"}, .allow_fallback = false}), "placement.prefer");
  EXPECT_EQ(refused_with({.avoid = {"p1"}}), "placement.avoid");
  EXPECT_EQ(refused_with({.pin = "p1", .avoid = {"r1"}}), "placement.avoid");
  JobSpec spec = spec_of(2);
  spec.wish = {.pin = "p1", .prefer = {"nowhere"}, .devices = {"H200"}};
  EXPECT_FALSE(refusal(bench.submit(spec)));
}

TEST(Admission, OC_CORE_1015_a_pinned_job_waits_for_its_replica_and_holds_nobody_up) {
  Bench bench;
  ReplicaView other = ready_replica("r2");
  other.pool_id = "p2";
  bench.manager_up({ready_replica(), other});
  bench.grant(1, {1, 1}, "r1");
  JobSpec pinned = spec_of(1);
  pinned.wish.pin = "p2";
  bench.submit(pinned);
  EXPECT_TRUE(bench.dispatches.empty());
  bench.submit(spec_of(2));
  ASSERT_EQ(bench.dispatches.size(), 1u);
  EXPECT_EQ(bench.dispatches[0].dispatch.job, job_id(2));
  bench.grant(1, {1, 2}, "r2");
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].endpoint, "unix:/r2");
}

// --- deadlines (E1 to E5) ---

// Jobs of 10 tokens: 100 ms to the first, 10 ms each after it.
void measure(Bench& bench, int jobs = 20) {
  for (int i = 0; i < jobs; ++i) {
    bench.submit(spec_of(1000 + static_cast<std::uint64_t>(i)));
    bench.serve_measured();
  }
}

JobSpec with_deadline(std::uint64_t n, std::int64_t deadline_ms) {
  JobSpec spec = spec_of(n);
  spec.deadline = ms(deadline_ms);
  return spec;
}

TEST(Deadlines, E1_the_earliest_deadline_of_a_tenant_is_served_first) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));  // ordered by the class default, 60 s
  bench.submit(with_deadline(3, 50'000));
  bench.submit(with_deadline(4, 40'000));
  while (!bench.dispatches.empty() && bench.ends.size() < 4) bench.finished(bench.dispatches.back(), 1);
  ASSERT_EQ(bench.dispatches.size(), 4u);
  EXPECT_EQ(bench.dispatches[1].dispatch.job, job_id(4));
  EXPECT_EQ(bench.dispatches[2].dispatch.job, job_id(3));
  EXPECT_EQ(bench.dispatches[3].dispatch.job, job_id(2));
}

TEST(Deadlines, E2_an_answer_is_marked_estimated_until_something_was_measured) {
  Bench bench;
  bench.ready(1);
  const auto estimated = [&](std::uint64_t n) {
    const auto replies = all_of<AdmissionReply>(bench.submit(spec_of(n)));
    return std::get<Admitted>(replies.at(0).result).estimated;
  };
  EXPECT_TRUE(estimated(1));
  bench.finished(bench.dispatches.back(), 1);
  measure(bench);
  EXPECT_FALSE(estimated(2));
}

// Replicas that have served nothing, with the rates of their self-tests.
std::vector<ReplicaView> tested(std::initializer_list<double> prefill_rates) {
  std::vector<ReplicaView> views;
  for (const double rate : prefill_rates) {
    ReplicaView& view = views.emplace_back(ready_replica("r" + std::to_string(views.size() + 1)));
    view.prefill_rate = rate;
    view.decode_rate = rate / 10;
  }
  return views;
}

TEST(Deadlines, E2_a_new_fleet_predicts_by_the_median_of_its_self_tests) {
  Bench bench;
  bench.manager_up(tested({10, 1, 1000}));
  bench.grant(1);
  bench.submit(spec_of(1));
  const auto replies = all_of<AdmissionReply>(bench.submit(spec_of(2)));
  const Admitted told = std::get<Admitted>(replies.at(0).result);
  EXPECT_TRUE(told.estimated);
  // One slot, taken by a job of 5 tokens at 10 a second and 5 at 1 a second.
  EXPECT_EQ(told.predicted_start, ms(4500));
}

TEST(Deadlines, E4_a_self_test_refuses_what_even_twice_its_speed_cannot_do) {
  Bench bench;
  bench.manager_up(tested({10}));
  bench.grant(2);
  const Failure failure = refused(bench, with_deadline(1, 249));  // 5 tokens at 10 a second, half
  EXPECT_EQ(failure.outcome, Outcome::DEADLINE_UNMET);
  EXPECT_NE(failure.message.find("self-test"), std::string::npos) << failure.message;
  EXPECT_FALSE(refusal(bench.submit(with_deadline(2, 251))));
}

TEST(Deadlines, E4_an_infeasible_deadline_is_refused_once_times_are_known) {
  Bench bench;
  bench.ready(1);
  EXPECT_FALSE(refusal(bench.submit(with_deadline(1, 20)))) << "a default refuses nobody";
  bench.finished(bench.dispatches.back(), 1);
  measure(bench);
  const Failure failure = refused(bench, with_deadline(2, 20));
  EXPECT_EQ(failure.outcome, Outcome::DEADLINE_UNMET);
  EXPECT_EQ(failure.field, "deadline_ms");
  EXPECT_FALSE(refusal(bench.submit(with_deadline(3, 250))));
}

TEST(Deadlines, E4_a_newcomer_that_would_make_an_admitted_job_late_is_refused) {
  Bench bench;
  bench.ready(1);
  measure(bench);
  bench.submit(spec_of(1));  // runs, 190 ms
  EXPECT_FALSE(refusal(bench.submit(with_deadline(2, 450))));
  const Failure failure = refused(bench, with_deadline(3, 440));
  EXPECT_EQ(failure.outcome, Outcome::DEADLINE_UNMET);
  EXPECT_NE(failure.message.find(job_id(2).to_string()), std::string::npos);
  EXPECT_FALSE(refusal(bench.submit(with_deadline(4, 5000)))) << "one that is served later harms nobody";
  JobSpec other = with_deadline(5, 440);
  other.tenant = "another";
  EXPECT_FALSE(refusal(bench.submit(other))) << "fairness between tenants is not a promise to one of them";
}

TEST(Deadlines, E5_a_waiting_job_past_its_latest_start_ends_at_once) {
  Bench bench;
  bench.ready(1);
  measure(bench);
  bench.submit(spec_of(1));  // runs on and on
  bench.submit(with_deadline(2, 1000));
  bench.advance(ms(700));
  EXPECT_EQ(bench.ends.size(), 20u);
  bench.advance(ms(200));  // 1000 - 190 have passed: what is left is less than it takes
  ASSERT_EQ(bench.ends.size(), 21u);
  EXPECT_EQ(bench.ends.back().failure->outcome, Outcome::DEADLINE_UNMET);
}

TEST(Deadlines, E5_a_running_job_ends_at_its_deadline) {
  Bench bench;
  bench.ready(1);
  bench.submit(with_deadline(1, 1000));
  bench.started(bench.dispatches[0]);
  bench.advance(ms(999));
  EXPECT_TRUE(bench.ends.empty());
  bench.advance(ms(1));
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::DECODE_TIMEOUT);
}

TEST(Deadlines, ORCH3081_only_a_job_with_a_deadline_is_told_a_probability) {
  Bench bench;
  bench.ready(1);
  measure(bench);
  const auto told = [&](JobSpec spec) {
    const auto replies = all_of<AdmissionReply>(bench.submit(std::move(spec)));
    return std::get<Admitted>(replies.at(0).result).on_time_probability;
  };
  EXPECT_FALSE(told(spec_of(1)));
  const std::optional<double> probability = told(with_deadline(2, 100'000));
  ASSERT_TRUE(probability);
  EXPECT_GT(*probability, 0.4);
  EXPECT_LT(*probability, 1);
}

// --- decisions (OC-CORE-1016) ---

TEST(Decisions, OC_CTRL_2090_the_log_follows_a_job_from_its_place_to_its_end) {
  Bench bench;
  bench.ready(1);
  bench.submit(with_deadline(1, 50'000));
  const DecisionRecord* record = bench.core.decisions().find(job_id(1));
  ASSERT_NE(record, nullptr);
  EXPECT_TRUE(record->admitted);
  ASSERT_EQ(record->placements.size(), 1u);
  EXPECT_EQ(record->placements[0].replica_id, "r1");
  EXPECT_EQ(record->placements[0].decision.candidates.at(0).verdict, Verdict::chosen);
  bench.failed(bench.dispatches[0], Outcome::SLOT_BUSY);
  bench.advance(ms(100));
  record = bench.core.decisions().find(job_id(1));
  ASSERT_EQ(record->placements.size(), 2u);
  EXPECT_EQ(record->placements[0].put_back, Outcome::SLOT_BUSY);
  EXPECT_FALSE(record->ended_at);
  bench.finished(bench.dispatches[1], 1);
  record = bench.core.decisions().find(job_id(1));
  ASSERT_TRUE(record->ended_at);
  EXPECT_FALSE(record->failure);
}

TEST(Decisions, OC_CTRL_2090_a_refused_job_is_explained_and_a_conflict_hides_nobody) {
  Bench bench;
  bench.ready(1);
  JobSpec unknown = spec_of(1);
  unknown.model_ref = "nobody";
  bench.submit(unknown);
  const DecisionRecord* record = bench.core.decisions().find(job_id(1));
  ASSERT_NE(record, nullptr);
  EXPECT_FALSE(record->admitted);
  EXPECT_EQ(record->failure->outcome, Outcome::MODEL_NOT_FOUND);
  bench.submit(spec_of(2));
  EXPECT_EQ(refused(bench, spec_of(2)).outcome, Outcome::CONFLICT);
  EXPECT_TRUE(bench.core.decisions().find(job_id(2))->admitted);
}

TEST(Decisions, OC_CORE_1016_ten_thousand_jobs_and_eight_placements_are_kept) {
  DecisionLog log;
  for (std::uint64_t n = 0; n < 10'500; ++n) log.open(job_id(n)).tenant = "t";
  EXPECT_EQ(log.size(), DecisionLog::kJobsMax);
  EXPECT_EQ(log.find(job_id(499)), nullptr);
  EXPECT_NE(log.find(job_id(500)), nullptr);
  for (std::uint32_t attempt = 1; attempt <= 20; ++attempt)
    log.add_placement(job_id(600), {attempt, Instant{1}, "r", "p", {}, std::nullopt});
  const DecisionRecord* record = log.find(job_id(600));
  ASSERT_EQ(record->placements.size(), DecisionLog::kPlacementsMax);
  EXPECT_EQ(record->placements_left_out, 12u);
  EXPECT_EQ(record->placements.front().attempt, 1u);
  EXPECT_EQ(record->placements.back().attempt, 20u);
}

}  // namespace
}  // namespace orch::gateway
