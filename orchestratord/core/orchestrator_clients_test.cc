// Admission, readers, cancel, deadlines and drain, as a client meets them.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

JobSpec with(JobSpec spec, Attachment attachment) {
  spec.attachment = attachment;
  return spec;
}
Failure refused(Bench& bench, JobSpec spec) { return refusal(bench.submit(std::move(spec))).value_or(Failure{}); }
std::string code(const std::optional<Failure>& failure) { return failure ? std::string(outcome_row(failure->outcome).code) : "none"; }

// --- POOL-ADMIT ---

TEST(Admission, POOL_ADMIT_unknown_model_is_404) {
  Bench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.model_ref = "nobody";
  const Failure failure = refused(bench, spec);
  EXPECT_EQ(failure.outcome, Outcome::MODEL_NOT_FOUND);
  EXPECT_EQ(failure.field, "model");
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
    if (failure) EXPECT_EQ(failure->message, "prompt (35 tokens) and max_tokens (966) together exceed the context of 1000 tokens");
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

// --- readers ---

TEST(Readers, unknown_job_is_404) {
  Bench bench;
  EXPECT_EQ(shown(bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt}), ReaderId{1}), "refused NOT_FOUND");
}

TEST(Readers, a_task_is_canceled_when_no_reader_comes_back_in_time) {
  Bench bench;
  bench.ready();
  bench.submit(spec_of(1));
  bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt});
  bench.step(ReaderGone{ReaderId{1}});
  bench.advance(ms(4999));
  EXPECT_TRUE(bench.ends.empty());
  EXPECT_EQ(all_of<CancelDispatch>(bench.advance(ms(1))).size(), 1u);
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::CANCELED);
  EXPECT_EQ(bench.ends[0].cancel_reason, "disconnect");
}

TEST(Readers, a_reader_that_comes_back_resumes_behind_its_last_event) {
  Bench bench;
  bench.ready();
  bench.submit(spec_of(1));
  bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt});
  bench.token(bench.dispatches[0], 0, "a");
  bench.step(ReaderGone{ReaderId{1}});
  bench.token(bench.dispatches[0], 1, "b");
  bench.advance(ms(4000));
  EXPECT_EQ(shown(bench.step(OpenStream{ReaderId{2}, job_id(1), 2}), ReaderId{2}), "opened, 3 token b");
  bench.advance(Duration::seconds(20));
  EXPECT_TRUE(bench.ends.empty());
}

TEST(Readers, posted_and_never_read_or_detached_runs_on_into_the_buffer) {
  for (const Attachment attachment : {Attachment::task, Attachment::detached}) {
    Bench bench;
    bench.ready();
    bench.submit(with(spec_of(1), attachment));
    bench.token(bench.dispatches[0], 0, "a");
    bench.advance(Duration::seconds(30));
    bench.finished(bench.dispatches[0], 1);
    EXPECT_EQ(shown(bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt}), ReaderId{1}), "opened, 1 started, 2 token a, 3 end, closed");
  }
}

TEST(Readers, a_detached_job_outlives_its_readers) {
  Bench bench;
  bench.ready();
  bench.submit(with(spec_of(1), Attachment::detached));
  bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt});
  bench.step(ReaderGone{ReaderId{1}});
  bench.advance(Duration::seconds(20));
  EXPECT_TRUE(bench.ends.empty());
}

TEST(Readers, an_attached_job_dies_with_its_connection) {
  for (const bool overflowed : {false, true}) {
    Bench bench;
    bench.ready();
    bench.submit(with(spec_of(1), Attachment::attached), ReaderId{1});
    EXPECT_EQ(all_of<CancelDispatch>(bench.step(ReaderGone{ReaderId{1}, overflowed})).size(), 1u);
    ASSERT_EQ(bench.ends.size(), 1u);
    EXPECT_EQ(bench.ends[0].failure->outcome, overflowed ? Outcome::SLOW_CONSUMER : Outcome::CANCELED);
    EXPECT_EQ(bench.core.find_job(job_id(1)), nullptr);
  }
}

TEST(Readers, a_full_buffer_that_nobody_reads_ends_in_slow_consumer) {
  Config config;
  config.streams.buffer_bytes_max = 4000;
  Bench bench{config};
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 500;
  bench.submit(spec);
  for (std::uint32_t i = 0; i < 100 && bench.ends.empty(); ++i) bench.token(bench.dispatches[0], i, "some text");
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::SLOW_CONSUMER);
}

TEST(Readers, finished_jobs_are_bounded_in_number) {
  Config config;
  config.limits.finished_max = 2;
  Bench bench{config};
  bench.ready();
  for (std::uint64_t n = 1; n <= 3; ++n) {
    bench.submit(spec_of(n));
    bench.now = bench.now + ms(1);
    bench.finished(bench.dispatches.back(), 1);
  }
  EXPECT_EQ(bench.core.find_job(job_id(1)), nullptr);
  EXPECT_NE(bench.core.find_job(job_id(2)), nullptr);
}

// --- cancel ---

TEST(Cancel, ruling3_in_every_state_idempotent_and_unknown_is_404) {
  Bench bench;
  const auto found = [&](std::uint64_t n) { return all_of<CancelReply>(bench.step(CancelJob{RequestId{77}, job_id(n)})).at(0).found; };
  EXPECT_FALSE(found(1));
  bench.manager_up();
  bench.submit(spec_of(1));
  EXPECT_TRUE(found(1));  // waiting
  EXPECT_TRUE(found(1));  // ended
  bench.grant(2);
  bench.submit(spec_of(2));
  EXPECT_TRUE(found(2));  // dispatching
  bench.submit(spec_of(3));
  bench.started(bench.dispatches.back());
  EXPECT_TRUE(found(3));  // running
  JobSpec counting = spec_of(4);
  counting.max_tokens = 980;
  bench.submit(counting);
  const Effects effects = bench.step(CancelJob{RequestId{78}, job_id(4)});  // admitting
  EXPECT_EQ(code(refusal(effects)), "CANCELED");
  ASSERT_EQ(bench.ends.size(), 3u);
  for (const NotedEnded& ended : bench.ends) EXPECT_EQ(ended.cancel_reason, "client");
}

TEST(Cancel, ORCH3026_no_token_after_it_and_the_slot_is_held_until_the_call_ends) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  const Dispatch first = bench.dispatches[0];
  bench.step(CancelJob{RequestId{7}, job_id(1)});
  EXPECT_TRUE(all_of<Deliver>(bench.token(first, 0, "late")).empty());
  EXPECT_EQ(bench.core.ignored().closed_fence, 1u);
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.step(DispatchBroken{first.dispatch});
  EXPECT_EQ(bench.dispatches.size(), 2u);
}

TEST(Cancel, a_call_whose_end_is_never_reported_holds_its_slot_for_the_settle_time) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  bench.step(CancelJob{RequestId{7}, job_id(1)});
  bench.advance(ms(4999));
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.advance(ms(1));
  EXPECT_EQ(bench.dispatches.size(), 2u);
}

// --- deadlines and watchdogs ---

TEST(Deadline, E5_a_waiting_job_ends_in_deadline_unmet_a_running_one_in_decode_timeout) {
  for (const bool running : {false, true}) {
    Bench bench;
    bench.manager_up();
    if (running) bench.grant();
    JobSpec spec = spec_of(1);
    spec.deadline = ms(300);
    bench.submit(spec);
    if (running) EXPECT_EQ(bench.dispatches.at(0).deadline, ms(300));
    bench.advance(ms(299));
    EXPECT_TRUE(bench.ends.empty());
    bench.advance(ms(1));
    ASSERT_EQ(bench.ends.size(), 1u);
    EXPECT_EQ(bench.ends[0].failure->outcome, running ? Outcome::DECODE_TIMEOUT : Outcome::DEADLINE_UNMET);
  }
}

TEST(Watchdog, ORCH3016_idle_before_and_between_tokens_and_wall) {
  Config config;
  config.limits.first_token_max = Duration::seconds(10);
  config.limits.idle_max = Duration::seconds(3);
  config.limits.wall_max = Duration::seconds(20);
  const auto ended = [](Bench& bench) { return !bench.ends.empty() && bench.ends[0].failure->outcome == Outcome::DECODE_TIMEOUT; };
  {
    Bench bench{config};
    bench.ready();
    bench.submit(spec_of(1));
    bench.advance(ms(9999));
    EXPECT_FALSE(ended(bench));
    bench.advance(ms(1));
    EXPECT_TRUE(ended(bench));
  }
  Bench bench{config};
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 100;
  bench.submit(spec);
  for (std::uint32_t i = 0; i < 9; ++i) {  // steady progress does not help against the wall
    bench.advance(ms(2000));
    bench.token(bench.dispatches[0], i, "x");
  }
  bench.advance(ms(1999));
  EXPECT_FALSE(ended(bench));
  bench.advance(ms(1));
  EXPECT_TRUE(ended(bench));
  Bench idle{config};
  idle.ready();
  idle.submit(spec_of(1));
  idle.token(idle.dispatches[0], 0, "x");
  idle.advance(ms(2999));
  EXPECT_FALSE(ended(idle));
  idle.advance(ms(1));
  EXPECT_TRUE(ended(idle));
}

TEST(Watchdog, a_job_does_not_wait_for_ever) {
  Bench bench;
  bench.manager_up();
  bench.submit(spec_of(1));
  bench.advance(Duration::seconds(600));
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::REPLICA_EXHAUSTED);
}

// --- drain ---

TEST(Drain, running_jobs_end_then_leases_are_given_back) {
  Bench bench;
  bench.ready();
  bench.submit(spec_of(1));
  EXPECT_TRUE(all_of<Drained>(bench.step(DrainBegin{ms(1000)})).empty());
  EXPECT_EQ(refused(bench, spec_of(2)).outcome, Outcome::POOL_UNREADY);
  const Effects effects = bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(all_of<Drained>(effects).size(), 1u);
  const auto updates = all_of<SendUpdate>(effects);
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].release, (std::vector{LeaseId{1, 1}}));
  EXPECT_TRUE(updates[0].bids.empty());
}

TEST(Drain, the_rest_is_canceled_at_the_deadline) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  bench.step(DrainBegin{ms(1000)});
  const Effects effects = bench.advance(ms(1000));
  EXPECT_EQ(all_of<Drained>(effects).size(), 1u);
  ASSERT_EQ(bench.ends.size(), 2u);
  for (const NotedEnded& ended : bench.ends) EXPECT_EQ(ended.cancel_reason, "drain");
}

}  // namespace
}  // namespace orch::gateway
