// Preemption: only when it saves a deadline, by whom, how often, and what is left for the job that made way.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

JobSpec urgent_spec(std::uint64_t n, Duration deadline) {
  JobSpec spec = spec_of(n);
  spec.deadline = deadline;
  return spec;
}

std::vector<NotedPreempted> preemptions(const Effects& effects) { return all_of<NotedPreempted>(effects); }

// One slot and a batch job dispatched to it, which is expected to hold it for ten seconds.
struct Stage {
  explicit Stage(const Config& config = {}) : bench(config) {
    bench.ready(1);
    bench.submit(spec_of(1, Priority::batch));
  }
  Effects urgent(std::uint64_t n, Duration deadline) { return bench.submit(urgent_spec(n, deadline)); }
  Bench bench;
};

TEST(Preemption, OC_PREEMPT_1002_a_dispatched_batch_job_gives_its_slot_before_its_first_token) {
  Stage stage;
  const Effects effects = stage.urgent(2, ms(2500));  // the next slot that comes free by itself would be too late
  const auto noted = preemptions(effects);
  ASSERT_EQ(noted.size(), 1u);
  EXPECT_EQ(noted[0].job, job_id(1));
  EXPECT_EQ(noted[0].by, job_id(2));
  EXPECT_EQ(noted[0].mode, PreemptionMode::hard);
  ASSERT_EQ(all_of<CancelDispatch>(effects).size(), 1u);
  EXPECT_EQ(stage.bench.dispatches.size(), 1u);                // the slot is the worker's to free
  EXPECT_TRUE(preemptions(stage.bench.step(Tick{})).empty());  // one slot is enough
  stage.bench.failed(stage.bench.dispatches[0], Outcome::CANCELED);
  ASSERT_EQ(stage.bench.dispatches.size(), 2u);
  EXPECT_EQ(stage.bench.dispatches[1].dispatch.job, job_id(2));
  const auto resumed = all_of<NotedDispatched>(stage.bench.finished(stage.bench.dispatches[1], 1));
  ASSERT_EQ(resumed.size(), 1u);
  EXPECT_EQ(resumed[0].job, job_id(1));
  EXPECT_TRUE(resumed[0].resumed);
  stage.bench.started(stage.bench.dispatches[2]);
  stage.bench.finished(stage.bench.dispatches[2], 3);
  ASSERT_EQ(stage.bench.ends.size(), 2u);
  EXPECT_FALSE(stage.bench.ends[1].failure);
}

TEST(Preemption, OC_PREEMPT_1004_readers_and_the_explanation_say_so) {
  Stage stage;
  const ReaderId reader{9};
  stage.bench.step(OpenStream{reader, job_id(1), std::nullopt});
  int told = 0;
  for (const Deliver& each : all_of<Deliver>(stage.urgent(2, ms(2500)))) {
    const auto* metrics = std::get_if<MetricsEvent>(&each.event->body);
    told += each.reader == reader && metrics != nullptr && metrics->preempted ? 1 : 0;
  }
  EXPECT_EQ(told, 1);
  const DecisionRecord* record = stage.bench.core.decisions().find(job_id(1));
  ASSERT_TRUE(record != nullptr && record->placements.size() == 1);
  EXPECT_EQ(record->placements[0].preempted_by, job_id(2));
}

TEST(Preemption, OC_PREEMPT_1002_nothing_is_charged_twice_or_kept_reserved) {
  Stage stage;
  stage.bench.started(stage.bench.dispatches[0]);  // its prompt is computed and charged: 7
  const FlowId batch{"m", Priority::batch, "default"};
  const std::int64_t v = stage.bench.core.fairness().v(batch);
  EXPECT_GT(v, 0);
  ASSERT_EQ(preemptions(stage.urgent(2, ms(2500))).size(), 1u);
  EXPECT_EQ(stage.bench.core.fairness().rho(batch), 0);
  stage.bench.failed(stage.bench.dispatches[0], Outcome::CANCELED);
  stage.bench.finished(stage.bench.dispatches[1], 1);
  stage.bench.started(stage.bench.dispatches[2]);  // the same prompt again
  EXPECT_EQ(stage.bench.core.fairness().v(batch), v);
}

TEST(Preemption, OC_CORE_1022_the_longest_wait_is_that_in_the_queue) {
  Config config;
  config.limits.queue_wait_max = ms(5'000);
  Stage stage(config);
  stage.bench.advance(ms(6'000));
  ASSERT_EQ(preemptions(stage.urgent(2, ms(2500))).size(), 1u);
  EXPECT_GT(stage.bench.core.next_wakeup(), stage.bench.now);
  stage.bench.failed(stage.bench.dispatches[0], Outcome::CANCELED);
  stage.bench.advance(ms(1'000));
  EXPECT_TRUE(stage.bench.ends.empty()) << "it ran for six seconds and waited for one";
  stage.bench.finished(stage.bench.dispatches[1], 1);
  ASSERT_EQ(stage.bench.dispatches.size(), 3u);
  EXPECT_EQ(stage.bench.dispatches[2].dispatch.job, job_id(1));
}

TEST(Preemption, OC_MIGR_M1_the_next_attempt_waits_until_the_old_one_is_fenced) {
  Stage stage;
  ASSERT_EQ(preemptions(stage.urgent(2, ms(2500))).size(), 1u);
  stage.bench.step(DispatchBroken{stage.bench.dispatches[0].dispatch});  // our own cancel: not the worker's word
  ASSERT_EQ(stage.bench.dispatches.size(), 2u);
  stage.bench.finished(stage.bench.dispatches[1], 1);
  stage.bench.advance(ms(14'000));
  EXPECT_EQ(stage.bench.dispatches.size(), 2u);
  stage.bench.manager_up();  // the lease went with its life
  stage.bench.grant(1, {1, 2});
  stage.bench.advance(ms(2'000));
  EXPECT_EQ(stage.bench.dispatches.size(), 2u) << "nobody said yet that its worker outlived it (M6)";
  stage.bench.advance(ms(3'750));
  stage.bench.grant(1, {1, 2});
  ASSERT_EQ(stage.bench.dispatches.size(), 3u);
  EXPECT_EQ(stage.bench.dispatches[2].dispatch.job, job_id(1));
}

// One slot, two batch jobs in turn: the first is preempted `times` times, and nobody hears of its attempts' ends.
struct Unseen : Stage {
  // Until another dispatch, or a lease's life and a half passes; `renewed`: its leases are renewed meanwhile.
  void silence(bool renewed) {
    const std::size_t before = bench.dispatches.size();
    for (int s = 0; s < 23 && bench.dispatches.size() == before; ++s) {
      bench.advance(ms(1'000));
      if (renewed) bench.grant(1);
    }
  }
  void preempted(bool renewed) {
    const std::size_t before = bench.dispatches.size();
    const std::uint64_t n = 10 + before;
    ASSERT_EQ(preemptions(urgent(n, ms(2500))).size(), 1u);
    bench.step(DispatchBroken{bench.dispatches[before - 1].dispatch});  // our own cancel
    ASSERT_EQ(bench.dispatches.size(), before + 1);
    bench.step(CancelJob{RequestId{n}, job_id(n)});  // measures nothing
    bench.failed(bench.dispatches[before], Outcome::CANCELED);
    bench.ends.clear();
    silence(renewed);
  }
  void back() {
    bench.manager_up();
    bench.grant(1, {1, ++leases});
  }
  std::uint64_t leases = 1;
};

TEST(Preemption, OC_MIGR_M6_an_attempt_that_its_worker_outlived_is_no_loss) {
  Unseen unseen;
  unseen.preempted(true);
  ASSERT_EQ(unseen.bench.dispatches.size(), 3u) << unseen.bench.ends.size();
  unseen.preempted(true);
  ASSERT_EQ(unseen.bench.dispatches.size(), 5u) << "a third attempt";
  EXPECT_EQ(unseen.bench.dispatches.back().dispatch.job, job_id(1));
}

TEST(Preemption, OC_MIGR_M6_two_attempts_that_nobody_saw_end_are_the_last) {
  Unseen unseen;
  unseen.preempted(false);
  unseen.back();
  ASSERT_EQ(unseen.bench.dispatches.size(), 3u) << "one may have been anything";
  unseen.preempted(false);
  unseen.back();
  EXPECT_EQ(unseen.bench.dispatches.size(), 4u);
  ASSERT_EQ(unseen.bench.ends.size(), 1u);
  EXPECT_EQ(unseen.bench.ends[0].failure->outcome, Outcome::WORKER_RESET);
  EXPECT_TRUE(unseen.bench.ends[0].failure->retriable()) << "nobody says that it was the job";
}

TEST(Preemption, OC_MIGR_M6_a_process_that_its_manager_ended_is_no_loss_and_a_later_one_says_nothing_of_it) {
  for (const bool said : {true, false}) {
    Bench bench;
    bench.manager_up({ready_replica(), ready_replica("r2")});  // there is hope while r1 is away
    bench.grant(1);
    bench.submit(spec_of(1, Priority::batch));
    ASSERT_EQ(preemptions(bench.submit(urgent_spec(2, ms(2500)))).size(), 1u);
    bench.step(DispatchBroken{bench.dispatches[0].dispatch});
    bench.finished(bench.dispatches[1], 1);
    bench.ends.clear();
    ReplicaView view = ready_replica();
    view.state = ReplicaState::stopped;
    view.has_process = false;
    view.last_end = ProcessEnd{view.inc, {}};
    if (said) bench.step(ReplicaChanged{kLink, view});
    view = ready_replica();
    view.inc = {1, 2};
    bench.step(ReplicaChanged{kLink, view});
    bench.grant(1, {1, 2}, "r1", {1, 2});
    ASSERT_EQ(bench.dispatches.size(), 3u) << said;
    bench.step(DispatchBroken{bench.dispatches[2].dispatch});  // a loss, whatever becomes of the worker
    EXPECT_EQ(bench.ends.size(), said ? 0u : 1u) << "the second one is the last";
  }
}

TEST(Preemption, OC_MIGR_M6_a_suspect_keeps_its_replica) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1, Priority::batch));
  ReplicaView dead = ready_replica();
  dead.state = ReplicaState::backoff;
  dead.has_process = false;
  dead.last_end = ProcessEnd{dead.inc, "killed_by_signal"};
  bench.step(DispatchBroken{bench.dispatches[0].dispatch});
  bench.step(ReplicaChanged{kLink, dead});
  ReplicaView back = ready_replica();
  back.inc = {1, 2};
  bench.step(ReplicaChanged{kLink, back});
  bench.grant(1, {1, 2}, "r1", {1, 2});
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_TRUE(preemptions(bench.submit(urgent_spec(2, ms(2500)))).empty());
}

TEST(Preemption, OC_PREEMPT_1001_not_without_need_and_not_in_vain) {
  for (const Duration deadline : {ms(60'000), ms(200)}) {  // it can wait; it is lost anyway
    Stage stage;
    EXPECT_TRUE(preemptions(stage.urgent(2, deadline)).empty());
  }
  Stage without_deadline;
  EXPECT_TRUE(preemptions(without_deadline.bench.submit(spec_of(2))).empty());
  Bench free_slot;
  free_slot.ready(2);
  free_slot.submit(spec_of(1, Priority::batch));
  EXPECT_TRUE(preemptions(free_slot.submit(urgent_spec(2, ms(2500)))).empty());
  EXPECT_EQ(free_slot.dispatches.size(), 2u);
}

// The batch job is over its time by more than the urgent one can wait, or by less.
TEST(Preemption, OC_ADMIT_E3_a_job_past_its_expected_end_is_taken_to_go_on_as_long_again) {
  for (const auto& [over, makes_way] : {std::pair{ms(5000), true}, std::pair{ms(300), false}}) {
    Stage stage;
    const Duration service = stage.bench.core.jobs().at(job_id(1)).forecast.service;
    stage.bench.advance(service);
    stage.bench.grant(1);  // its lease lives on
    stage.bench.advance(over);
    EXPECT_EQ(preemptions(stage.urgent(2, ms(2500))).size(), makes_way ? 1u : 0u) << over.ms();
  }
}

// Two are over; the one that is so by less ends first.
TEST(Preemption, OC_ADMIT_E3_of_jobs_past_their_expected_ends_the_later_one_ends_first) {
  Bench bench;
  bench.ready(2);
  bench.submit(spec_of(1, Priority::batch));
  const Duration service = bench.core.jobs().at(job_id(1)).forecast.service;
  bench.advance(ms(5000));
  bench.submit(spec_of(2, Priority::batch));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  bench.advance(service);
  bench.grant(2);
  bench.advance(ms(300));
  EXPECT_TRUE(preemptions(bench.submit(urgent_spec(3, ms(2500)))).empty());
}

TEST(Preemption, OC_PREEMPT_1001_not_where_the_slot_would_not_help) {
  Bench too_small;
  ReplicaView wide = ready_replica("r2");
  wide.ctx_max = 4000;
  too_small.manager_up({ready_replica(), wide});
  too_small.grant(1);  // of the other one
  too_small.submit(spec_of(1, Priority::batch));
  JobSpec large = urgent_spec(2, ms(2500));
  large.max_tokens = 2000;
  const Effects admitted = too_small.submit(large);
  EXPECT_FALSE(refusal(admitted));
  EXPECT_TRUE(preemptions(admitted).empty());
  Bench shrunk;
  shrunk.ready(2);
  shrunk.submit(spec_of(1, Priority::batch));
  shrunk.submit(spec_of(3, Priority::batch));
  shrunk.grant(1);  // the first slot that comes free goes back to the manager
  EXPECT_TRUE(preemptions(shrunk.submit(urgent_spec(2, ms(2500)))).empty());
}

TEST(Preemption, OC_PREEMPT_1001_not_while_a_slot_is_free_or_on_its_way) {
  Bench busy;
  busy.ready(2);
  busy.submit(spec_of(1, Priority::batch));
  busy.submit(urgent_spec(2, ms(2500)));
  ASSERT_EQ(busy.dispatches.size(), 2u);
  // The worker is behind for a moment: the job waits, and the slot is still there.
  EXPECT_TRUE(preemptions(busy.failed(busy.dispatches[1], Outcome::SLOT_BUSY)).empty());
  Bench coming;
  coming.ready(2);
  coming.submit(spec_of(1, Priority::batch));
  coming.submit(spec_of(3, Priority::batch));
  coming.step(CancelJob{RequestId{77}, job_id(1)});
  EXPECT_TRUE(preemptions(coming.submit(urgent_spec(2, ms(2500)))).empty());
}

TEST(Preemption, OC_PREEMPT_1002_not_after_the_first_token_and_not_of_interactive_jobs) {
  Stage shown_one;
  shown_one.bench.started(shown_one.bench.dispatches[0]);
  shown_one.bench.token(shown_one.bench.dispatches[0], 0, "x");
  EXPECT_TRUE(preemptions(shown_one.urgent(2, ms(2500))).empty());
  Stage half_a_character;  // accepted, and nothing to show yet
  half_a_character.bench.started(half_a_character.bench.dispatches[0]);
  half_a_character.bench.token(half_a_character.bench.dispatches[0], 0, "");
  EXPECT_TRUE(preemptions(half_a_character.urgent(2, ms(2500))).empty());
  Bench peers;
  peers.ready(1);
  peers.submit(spec_of(1));
  EXPECT_TRUE(preemptions(peers.submit(urgent_spec(2, ms(1500)))).empty());
}

TEST(Preemption, OC_PREEMPT_1002_not_at_the_price_of_the_other_jobs_deadline) {
  for (const auto& [deadline, makes_way] : {std::pair{ms(2200), false}, std::pair{ms(60'000), true}}) {
    Bench bench;
    bench.ready(1);
    JobSpec batch = spec_of(1, Priority::batch);
    batch.deadline = deadline;
    EXPECT_FALSE(refusal(bench.submit(batch)));
    ASSERT_EQ(bench.dispatches.size(), 1u);
    EXPECT_EQ(!preemptions(bench.submit(urgent_spec(2, ms(2500)))).empty(), makes_way) << deadline.ms();
  }
}

// Two slots with batch jobs, two urgent jobs one after the other.
std::size_t hard_preemptions(const Config& config) {
  Bench bench{config};
  bench.ready(2);
  bench.submit(spec_of(1, Priority::batch));
  bench.submit(spec_of(2, Priority::batch));
  std::size_t count = preemptions(bench.submit(urgent_spec(3, ms(1500)))).size();
  if (count == 0) return 0;
  bench.failed(bench.dispatches[1], Outcome::CANCELED);  // the one dispatched last
  EXPECT_EQ(bench.dispatches.back().dispatch.job, job_id(3));
  count += preemptions(bench.submit(urgent_spec(4, ms(1500)))).size();
  return count;
}

TEST(Preemption, OC_PREEMPT_1003_is_bounded_per_minute_and_per_job) {
  EXPECT_EQ(hard_preemptions({}), 2u);
  for (const std::uint32_t rate : {0u, 1u}) {
    Config config;
    config.preemption.per_minute = rate;
    EXPECT_EQ(hard_preemptions(config), rate);
  }
  Config never;
  never.preemption.per_job = 0;
  EXPECT_EQ(hard_preemptions(never), 0u);
  Config soft_only;
  soft_only.preemption.mode = PreemptionMode::soft;
  EXPECT_EQ(hard_preemptions(soft_only), 0u);
}

TEST(Preemption, OC_PREEMPT_1003_the_same_job_makes_way_so_often_and_no_more) {
  Config config;
  config.preemption.per_job = 1;
  Stage stage{config};
  ASSERT_EQ(preemptions(stage.urgent(2, ms(2500))).size(), 1u);
  stage.bench.failed(stage.bench.dispatches[0], Outcome::CANCELED);
  stage.bench.finished(stage.bench.dispatches[1], 1);
  ASSERT_EQ(stage.bench.dispatches.back().dispatch.job, job_id(1));
  EXPECT_TRUE(preemptions(stage.urgent(3, ms(2500))).empty());
}

// One slot held by an interactive job that has put its class far ahead, with batch and interactive work behind it.
Effects turn_of_batch(std::optional<Duration> deadline, Bench& bench, std::optional<ReaderId> of_the_batch = {}) {
  bench.ready(1);
  JobSpec large = spec_of(1);
  large.max_tokens = 900;
  bench.submit(large);
  bench.submit(spec_of(2, Priority::batch));
  if (of_the_batch) bench.step(OpenStream{*of_the_batch, job_id(2), std::nullopt});
  bench.submit(spec_of(3));
  bench.started(bench.dispatches[0]);
  for (std::uint32_t i = 0; i < 200; ++i) bench.token(bench.dispatches[0], i, "x");
  JobSpec spec = spec_of(4);
  spec.deadline = deadline;
  bench.submit(spec);
  return bench.finished(bench.dispatches[0], 200);
}

TEST(Preemption, OC_PREEMPT_1002_soft_takes_the_turn_of_waiting_batch_work) {
  Config config;
  config.preemption.mode = PreemptionMode::soft;
  Bench bench{config};
  const auto noted = preemptions(turn_of_batch(ms(2500), bench));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].dispatch.job, job_id(4));
  ASSERT_EQ(noted.size(), 1u);
  EXPECT_EQ(noted[0].mode, PreemptionMode::soft);
  EXPECT_EQ(noted[0].job, job_id(2));
  EXPECT_EQ(noted[0].by, job_id(4));
}

TEST(Preemption, OC_PREEMPT_1003_soft_is_bounded_per_minute) {
  Config config;
  config.preemption.mode = PreemptionMode::soft;
  config.preemption.per_minute = 0;
  Bench bench{config};
  EXPECT_TRUE(preemptions(turn_of_batch(ms(2500), bench)).empty());
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(bench.dispatches[1].dispatch.job, job_id(2));
}

TEST(Preemption, OC_PREEMPT_1004_readers_of_a_job_that_lost_its_turn_are_told) {
  Config config;
  config.preemption.mode = PreemptionMode::soft;
  Bench bench{config};
  const ReaderId reader{9};
  int told = 0;
  for (const Deliver& each : all_of<Deliver>(turn_of_batch(ms(2500), bench, reader))) {
    const auto* metrics = std::get_if<MetricsEvent>(&each.event->body);
    told += each.reader == reader && metrics != nullptr && metrics->preempted ? 1 : 0;
  }
  EXPECT_EQ(told, 1);
}

TEST(Preemption, OC_PREEMPT_1001_soft_leaves_the_turn_where_nothing_is_at_stake) {
  Config disabled;
  disabled.preemption.mode = PreemptionMode::disabled;
  for (const auto& [config, deadline] : {std::pair<Config, std::optional<Duration>>{Config{}, std::nullopt},
                                         {Config{}, ms(60'000)},
                                         {disabled, ms(2500)}}) {
    Bench bench{config};
    EXPECT_TRUE(preemptions(turn_of_batch(deadline, bench)).empty());
    ASSERT_EQ(bench.dispatches.size(), 2u);
    EXPECT_EQ(bench.dispatches[1].dispatch.job, job_id(2));
  }
}

}  // namespace
}  // namespace orch::gateway
