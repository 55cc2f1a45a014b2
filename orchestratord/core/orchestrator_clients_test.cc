// Readers, cancel, deadlines, watchdogs and drain, as a client meets them.
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
std::string code(const std::optional<Failure>& failure) {
  return failure ? std::string(outcome_row(failure->outcome).code) : "none";
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
    EXPECT_EQ(shown(bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt}), ReaderId{1}),
              "opened, 1 started, 2 token a, 3 end, closed");
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
  config.streams.buffer_bytes_max = 1000;
  Bench bench{config};
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 500;
  bench.submit(spec);
  for (std::uint32_t i = 0; i < 100 && bench.ends.empty(); ++i) bench.token(bench.dispatches[0], i, "some text");
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::SLOW_CONSUMER);
}

TEST(Readers, OC_JOB_1017_a_task_that_nobody_reads_keeps_a_whole_context) {
  LongBench bench;
  ReplicaView large = ready_replica();
  large.ctx_max = 131'072;
  bench.manager_up({large});
  bench.grant(1);
  JobSpec spec = spec_of(1);
  spec.max_tokens = 100'000;
  bench.submit(spec);
  const Dispatch d = bench.dispatches.at(0);
  bench.started(d);
  std::uint32_t index = 0;
  while (index < spec.max_tokens) {
    DispatchTokens many{d.dispatch, d.fence, index, {}, {}};
    for (int k = 0; k < 1000; ++k) {
      many.ids.push_back(100 + index++ % 40'000);
      many.text += " word";
      many.text_ends.push_back(static_cast<std::uint32_t>(many.text.size()));
    }
    bench.step(many);
    ASSERT_TRUE(bench.ends.empty()) << bench.ends[0].failure->message << " after " << index;
  }
  bench.finished(d, index);
  std::uint64_t last = 0;
  std::size_t portions = 0;
  Effects effects = bench.step(OpenStream{ReaderId{9}, job_id(1), std::nullopt});
  for (bool closed = false; !closed && portions < 1000;) {
    for (const Deliver& each : all_of<Deliver>(effects)) {
      ASSERT_EQ(each.event->id, last + 1);
      last = each.event->id;
    }
    EXPECT_LE(all_of<Deliver>(effects).size(), 2000u) << "no step does it all";
    closed = !all_of<StreamClosed>(effects).empty();
    ++portions;
    if (!closed) effects = bench.step(ReaderDrained{ReaderId{9}});
  }
  EXPECT_EQ(last, 100'002u) << "started, every token and the end";
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
  const auto found = [&](std::uint64_t n) {
    return all_of<CancelReply>(bench.step(CancelJob{RequestId{77}, job_id(n)})).at(0).found;
  };
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
  const auto ended = [](Bench& bench) {
    return !bench.ends.empty() && bench.ends[0].failure->outcome == Outcome::DECODE_TIMEOUT;
  };
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

TEST(Drain, ORCH_2101_its_first_deadline_holds_to_the_millisecond) {
  Bench bench;
  bench.ready(1);
  bench.submit(spec_of(1));
  bench.step(DrainBegin{ms(1010)});
  bench.advance(ms(500));
  bench.step(DrainBegin{ms(30'000)});  // a second signal
  EXPECT_EQ(all_of<Drained>(bench.advance(ms(600))).size(), 1u);
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].total, ms(1010));
  EXPECT_TRUE(all_of<SendUpdate>(bench.advance(Duration::seconds(20))).empty()) << "nothing is renewed any more";
}

TEST(Drain, ORCH_2101_who_still_waits_for_a_count_is_answered_at_the_deadline) {
  Bench bench;
  bench.ready(1);
  JobSpec spec = spec_of(1);
  spec.prompt_bytes = 5000;  // only a count can tell whether it fits
  EXPECT_EQ(all_of<CountTokens>(bench.submit(spec)).size(), 1u);
  bench.step(DrainBegin{ms(1000)});
  const auto replies = all_of<AdmissionReply>(bench.advance(ms(1000)));
  ASSERT_EQ(replies.size(), 1u);
  EXPECT_EQ(std::get<Failure>(replies[0].result).outcome, Outcome::CANCELED);
}

TEST(Clients, a_task_id_is_not_used_again_while_its_first_attempt_is_being_stopped) {
  Config config;
  config.result_ttl = ms(1);
  Bench bench(config);
  bench.ready();
  bench.submit(spec_of(1));
  bench.step(CancelJob{RequestId{9}, job_id(1)});
  bench.advance(ms(10));
  EXPECT_EQ(code(refused(bench, spec_of(1))), "CONFLICT");
  bench.failed(bench.dispatches.at(0), Outcome::CANCELED);
  EXPECT_FALSE(refusal(bench.submit(spec_of(1))));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  bench.finished(bench.dispatches[1], 1);
  for (const auto& [key, lease] : bench.core.leases().all()) EXPECT_EQ(lease.in_use, 0u);
}

}  // namespace
}  // namespace orch::gateway
