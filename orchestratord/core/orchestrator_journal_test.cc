// The journal as the core uses it: what may be told when, and what a failing journal changes (J1, J3, J6).
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

// --- J1 ---

TEST(Journal, J1_the_202_and_started_leave_after_the_admit_commit) {
  JournalBench bench;
  bench.ready();
  EXPECT_TRUE(all_of<AdmissionReply>(bench.submit(spec_of(1))).empty());
  EXPECT_EQ(shown(bench.open(1, 1), ReaderId{1}), "refused NOT_FOUND") << "nobody is told of it";
  EXPECT_TRUE(bench.dispatches.empty());
  EXPECT_EQ(admissions(bench.commit()).size(), 1u);
  EXPECT_EQ(shown(bench.open(2, 1), ReaderId{2}), "opened, 1 started");
  EXPECT_TRUE(bench.disk.has(job_id(1)));
}

TEST(Journal, J1_the_terminal_leaves_after_its_commit_and_the_slot_is_free_before) {
  JournalBench bench;
  bench.ready(1);
  const Dispatch first = bench.running(1);
  bench.open(1, 1);
  bench.submit(spec_of(2));
  bench.commit();
  EXPECT_EQ(shown(bench.finished(first, 1), ReaderId{1}), "");
  EXPECT_EQ(bench.dispatches.size(), 2u) << "the next job has the slot already";
  EXPECT_TRUE(bench.ends.empty());
  EXPECT_EQ(shown(bench.commit(), ReaderId{1}), "2 end, closed");
  EXPECT_EQ(bench.ends.size(), 1u);
  ASSERT_NE(bench.disk.job(job_id(1)).terminal, nullptr);
}

TEST(Journal, ruling12_a_plain_request_writes_nothing) {
  JournalBench bench;
  bench.ready();
  const std::size_t before = bench.written;  // the manager whose leases there are (M1)
  bench.submit(attached(1), ReaderId{1});
  for (std::uint32_t i = 0; i < 5; ++i) bench.token(bench.dispatches[0], i, "x");
  bench.advance(ms(1000));
  bench.finished(bench.dispatches[0], 5);
  bench.submit(attached(2), ReaderId{2});
  bench.step(ReaderGone{ReaderId{2}});
  bench.advance(Duration::seconds(700));
  EXPECT_EQ(bench.ends.size(), 2u);
  EXPECT_EQ(bench.written, before);
  bench.submit(spec_of(3));
  EXPECT_EQ(bench.written, before + 1) << "a posted task does";
}

TEST(Journal, OC_QUEUE_1008_eviction_and_newcomer_are_one_transaction_before_either_is_told) {
  for (const bool committed : {true, false}) {
    Config config = journaled();
    config.queue.batch_capacity = 1;
    JournalBench bench{config};
    bench.step(ManagerUp{kLink, kManager, 1, {ready_replica()}});  // no lease: jobs wait
    bench.submit(spec_of(1, Priority::batch));
    bench.commit();
    bench.open(1, 1);
    const Effects asked = bench.submit(spec_of(2, Priority::batch));
    EXPECT_EQ(shown(asked, ReaderId{1}), "");
    EXPECT_TRUE(all_of<AdmissionReply>(asked).empty());
    ASSERT_EQ(bench.writes.size(), 1u);
    ASSERT_EQ(bench.writes[0].records.size(), 2u);
    EXPECT_TRUE(std::holds_alternative<EndRecord>(bench.writes[0].records[0]));
    EXPECT_TRUE(std::holds_alternative<AdmitRecord>(bench.writes[0].records[1]));
    if (committed) {
      const Effects told = bench.commit();
      EXPECT_EQ(shown(told, ReaderId{1}), "2 QUEUE_FULL_DROP_LRU, closed");
      EXPECT_EQ(admissions(told).size(), 1u);
    } else {
      const Effects told = bench.refuse();
      EXPECT_EQ(shown(told, ReaderId{1}), "") << "what was not committed has not happened";
      EXPECT_EQ(outcome_code(refusal(told)), "JOURNAL_UNAVAILABLE");
      EXPECT_EQ(bench.core.find_job(job_id(1))->state, JobState::waiting);
      EXPECT_TRUE(bench.ends.empty());
    }
  }
}

TEST(Journal, J1_room_is_taken_while_an_admission_commits) {
  Config config = journaled();
  config.queue.interactive_capacity = 1;
  JournalBench bench{config};
  bench.step(ManagerUp{kLink, kManager, 1, {ready_replica()}});
  bench.submit(spec_of(1));
  EXPECT_EQ(outcome_code(refusal(bench.submit(spec_of(2)))), "ADMISSION_REJECT");
  EXPECT_EQ(admissions(bench.commit()).size(), 1u);
}

TEST(Journal, a_cancel_that_overtakes_the_admission_ends_the_job_after_it) {
  JournalBench bench;
  bench.ready();
  bench.submit(spec_of(1));
  EXPECT_TRUE(all_of<CancelReply>(bench.step(CancelJob{RequestId{9}, job_id(1)})).at(0).found);
  EXPECT_EQ(admissions(bench.commit()).size(), 1u);
  bench.commit();
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(outcome_code(bench.ends[0].failure), "CANCELED");
  EXPECT_EQ(bench.ends[0].cancel_reason, "client");
  EXPECT_TRUE(bench.dispatches.empty());
}

TEST(Journal, a_client_that_leaves_before_the_admission_ends_the_job_after_it) {
  JournalBench bench;
  bench.ready();
  JobSpec spec = attached(1);
  spec.idempotency = keyed(1, 1, 1).idempotency;
  bench.submit(spec, ReaderId{1});
  bench.step(ReaderGone{ReaderId{1}});
  bench.commit();
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].cancel_reason, "disconnect");
}

// --- J3 ---

TEST(Journal, J3_tokens_follow_every_250_ms_and_are_told_before) {
  JournalBench bench;
  bench.ready();
  const Dispatch d = bench.running(1);
  bench.open(1, 1);
  EXPECT_EQ(shown(bench.token(d, 0, "a"), ReaderId{1}), "2 token a");
  EXPECT_TRUE(bench.writes.empty());
  bench.advance(ms(249));
  EXPECT_TRUE(bench.writes.empty());
  bench.advance(ms(1));
  ASSERT_EQ(bench.writes.size(), 1u);
  bench.commit();
  EXPECT_EQ(bench.disk.tokens(job_id(1)), 1u);
}

TEST(Journal, J3_and_every_64_tokens) {
  JournalBench bench;
  bench.ready();
  JobSpec spec = spec_of(1);
  spec.max_tokens = 500;
  bench.submit(spec);
  bench.commit();
  bench.commit();
  for (std::uint32_t i = 0; i < 63; ++i) bench.token(bench.dispatches[0], i, "a");
  EXPECT_TRUE(bench.writes.empty());
  bench.token(bench.dispatches[0], 63, "a");
  ASSERT_EQ(bench.writes.size(), 1u);
  for (std::uint32_t i = 64; i < 300; ++i) bench.token(bench.dispatches[0], i, "a");
  EXPECT_EQ(bench.writes.size(), 1u) << "one write per job is under way";
  bench.commit();
  EXPECT_EQ(bench.disk.tokens(job_id(1)), 64u);
}

TEST(Journal, J3_one_write_takes_the_tokens_of_all_jobs) {
  JournalBench bench;
  bench.ready(2);
  const Dispatch a = bench.running(1);
  const Dispatch b = bench.running(2);
  bench.token(a, 0, "a");
  bench.advance(ms(100));
  bench.token(b, 0, "b");
  bench.advance(ms(150));
  ASSERT_EQ(bench.writes.size(), 1u);
  EXPECT_EQ(bench.writes[0].records.size(), 2u);
}

TEST(Journal, J4_no_token_is_told_before_the_record_of_its_attempt) {
  JournalBench bench;
  bench.ready();
  bench.submit(spec_of(1));
  bench.commit_one();
  bench.open(1, 1);
  const Dispatch d = bench.dispatches.at(0);
  EXPECT_EQ(shown(bench.token(d, 0, "a"), ReaderId{1}), "");
  EXPECT_EQ(shown(bench.open(2, 1), ReaderId{2}), "opened, 1 started");
  const Effects told = bench.commit();
  EXPECT_EQ(shown(told, ReaderId{1}), "2 token a");
  EXPECT_EQ(shown(told, ReaderId{2}), "2 token a");
  ASSERT_TRUE(bench.disk.job(job_id(1)).dispatch.has_value());
}

// --- J6 ---

TEST(JournalFailing, J6_journaled_kinds_are_refused_plain_ones_go_on_and_it_recovers) {
  JournalBench bench;
  bench.ready();
  bench.submit(spec_of(1));
  const Effects told = bench.refuse("database or disk is full");
  const auto failure = refusal(told);
  EXPECT_EQ(outcome_code(failure), "JOURNAL_UNAVAILABLE");
  EXPECT_NE(failure->message.find("disk is full"), std::string::npos);
  EXPECT_TRUE(all_of<NotedJournal>(told).at(0).failing);
  EXPECT_EQ(outcome_code(refusal(bench.submit(spec_of(2)))), "JOURNAL_UNAVAILABLE");
  EXPECT_EQ(admissions(bench.submit(attached(3), ReaderId{3})).size(), 1u);
  EXPECT_EQ(bench.dispatches.size(), 1u);

  EXPECT_TRUE(bench.writes.empty());
  bench.advance(ms(100));
  ASSERT_EQ(bench.writes.size(), 1u) << "it tries again by itself, and takes the refused job out";
  bench.refuse();
  bench.advance(ms(199));
  EXPECT_TRUE(bench.writes.empty()) << "the pause doubles";
  bench.advance(ms(1));
  EXPECT_FALSE(all_of<NotedJournal>(bench.commit()).at(0).failing);
  EXPECT_FALSE(bench.core.journal().failing());
  bench.submit(spec_of(4));
  EXPECT_EQ(admissions(bench.commit()).size(), 1u);
}

TEST(JournalFailing, J6_a_terminal_that_cannot_commit_is_held_and_retried_its_slot_free) {
  JournalBench bench;
  bench.ready(1);
  const Dispatch d = bench.running(1);
  bench.open(1, 1);
  bench.token(d, 0, "a");
  bench.finished(d, 1);
  EXPECT_EQ(shown(bench.refuse(), ReaderId{1}), "");
  bench.submit(attached(2), ReaderId{2});
  EXPECT_EQ(bench.dispatches.size(), 2u);
  for (int i = 0; i < 5; ++i) {
    bench.advance(Duration::seconds(5));
    bench.refuse();
  }
  EXPECT_TRUE(bench.ends.empty());
  bench.advance(Duration::seconds(5));
  EXPECT_EQ(shown(bench.commit(), ReaderId{1}), "3 end, closed");
  EXPECT_EQ(bench.disk.tokens(job_id(1)), 1u) << "with its tokens";
  EXPECT_EQ(bench.ends.size(), 1u);
}

TEST(JournalFailing, J4_an_end_takes_the_tokens_of_a_write_along_that_may_still_fail) {
  JournalBench bench;
  bench.ready();
  const Dispatch d = bench.running(1);
  bench.open(1, 1);
  bench.token(d, 0, "a");
  bench.advance(ms(250));
  ASSERT_EQ(bench.writes.size(), 1u) << "a checkpoint";
  bench.token(d, 1, "b");
  bench.finished(d, 2);
  ASSERT_EQ(bench.writes.size(), 2u);
  const JournalTicket first = bench.writes.front().ticket;
  bench.writes.pop_front();
  bench.step(JournalFailed{first, first, "disk full for a moment"});
  bench.commit();
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.disk.tokens(job_id(1)), 2u);
}

TEST(JournalFailing, J4_no_token_is_stored_before_the_record_of_its_attempt) {
  JournalBench bench;
  bench.ready();
  bench.submit(spec_of(1));
  bench.commit_one();
  const Dispatch d = bench.dispatches.at(0);
  ASSERT_EQ(bench.writes.size(), 1u) << "the record of the attempt";
  bench.token(d, 0, "a");
  bench.advance(ms(250));
  EXPECT_EQ(bench.writes.size(), 1u) << "that one may still fail";
  const JournalTicket first = bench.writes.front().ticket;
  bench.writes.pop_front();
  bench.step(JournalFailed{first, first, "disk full for a moment"});
  bench.advance(ms(1'000));
  bench.commit();
  ASSERT_TRUE(bench.disk.job(job_id(1)).dispatch.has_value());
  EXPECT_EQ(bench.disk.tokens(job_id(1)), 1u);
}

// Two replicas of one slot each; the job runs on the first, and the record of that is not durable yet.
struct JournalFleet2 : JournalBench {
  explicit JournalFleet2(const ReplicaView& second = ready_replica("r2")) {
    manager_up({ready_replica("r1"), second});
    grant(1, {1, 1}, "r1");
    commit();
    submit(spec_of(1));
    commit_one();
    open(1, 1);
    grant(1, {1, 2}, "r2");
  }
  void lose_first() {
    step(LeaseRevoked{kLink, {1, 1}, true});
    failed(dispatches.at(0), Outcome::POOL_UNREADY);
    const JournalTicket boarding = writes.back().ticket;  // the second attempt waits for it (M6)
    ASSERT_TRUE(std::holds_alternative<AboardRecord>(writes.back().records.at(0)));
    disk.apply(writes.back(), now);
    writes.pop_back();
    step(JournalCommitted{boarding, boarding});
    ASSERT_EQ(dispatches.size(), 2u);
  }
};

TEST(Journal, J4_the_record_of_an_attempt_does_not_stand_for_a_later_one_on_other_weights) {
  ReplicaView other = ready_replica("r2");
  other.engine_version = "2";
  JournalFleet2 bench(other);
  bench.commit();
  bench.lose_first();
  ASSERT_EQ(bench.writes.size(), 1u) << "the record of the second attempt";
  bench.token(bench.dispatches[1], 0, "a");
  bench.advance(ms(250));
  EXPECT_EQ(bench.writes.size(), 1u) << "a restart would go on behind it on the weights of the first";
  EXPECT_EQ(shown(bench.commit(), ReaderId{1}), "2 token a");
  bench.advance(ms(250));
  bench.commit();
  EXPECT_EQ(bench.disk.tokens(job_id(1)), 1u);
  EXPECT_EQ(bench.disk.job(job_id(1)).dispatch->served_by.engine_version, "2");
}

TEST(Journal, J4_a_late_record_of_an_earlier_attempt_does_not_stand_for_a_later_one) {
  ReplicaView other = ready_replica("r2");
  other.engine_version = "2";
  JournalFleet2 bench(other);
  bench.lose_first();
  ASSERT_EQ(bench.writes.size(), 2u) << "the records of both attempts";
  bench.token(bench.dispatches[1], 0, "a");
  EXPECT_EQ(shown(bench.commit_one(), ReaderId{1}), "");
  bench.advance(ms(250));
  EXPECT_EQ(bench.writes.size(), 1u);
  EXPECT_EQ(shown(bench.commit(), ReaderId{1}), "2 token a");
}

TEST(Journal, J4_tokens_that_wait_for_the_record_of_a_lost_attempt_are_told_with_it) {
  JournalFleet2 bench;
  EXPECT_EQ(shown(bench.token(bench.dispatches.at(0), 0, "a"), ReaderId{1}), "");
  bench.lose_first();
  EXPECT_EQ(bench.dispatches[1].resume_ids.size(), 1u);
  EXPECT_EQ(shown(bench.commit(), ReaderId{1}), "2 token a");
  EXPECT_EQ(shown(bench.token(bench.dispatches[1], 1, "b"), ReaderId{1}), "3 token b");
}

TEST(JournalFailing, J4_the_record_of_a_lost_attempt_is_owed_until_it_is_durable) {
  JournalFleet2 bench;
  bench.started(bench.dispatches.at(0));
  bench.token(bench.dispatches.at(0), 0, "a");
  bench.lose_first();
  bench.refuse();
  ReplicaView gone = ready_replica("r1");
  gone.state = ReplicaState::stopped;
  bench.step(ReplicaChanged{kLink, gone});
  Effects told = bench.advance(ms(1'000));
  told = told + bench.commit();
  EXPECT_EQ(shown(told, ReaderId{1}), "2 token a");
  ASSERT_TRUE(bench.disk.job(job_id(1)).dispatch.has_value());
  EXPECT_EQ(bench.disk.job(job_id(1)).dispatch->served_by.engine, "native");
}

TEST(JournalFailing, J6_a_disk_that_does_not_answer_counts_as_failing) {
  JournalBench bench;
  bench.ready();
  bench.submit(spec_of(1));
  bench.advance(ms(9999));
  EXPECT_FALSE(bench.core.journal().failing());
  bench.advance(ms(1));
  EXPECT_TRUE(bench.core.journal().failing());
  EXPECT_EQ(outcome_code(refusal(bench.submit(spec_of(2)))), "JOURNAL_UNAVAILABLE");
  EXPECT_EQ(admissions(bench.commit()).size(), 1u) << "the answer comes after all";
  EXPECT_FALSE(bench.core.journal().failing());
}

TEST(JournalFailing, a_drain_does_not_wait_for_ever) {
  JournalBench bench;
  bench.ready(1);
  const Dispatch d = bench.running(1);
  bench.step(DrainBegin{ms(1000)});
  bench.finished(d, 1);
  EXPECT_TRUE(all_of<Drained>(bench.refuse()).empty());
  EXPECT_TRUE(all_of<Drained>(bench.advance(ms(2999))).empty());
  EXPECT_EQ(all_of<Drained>(bench.advance(ms(1))).size(), 1u);
}

TEST(Journal, a_drain_waits_for_the_last_commits) {
  JournalBench bench;
  bench.ready(1);
  const Dispatch d = bench.running(1);
  bench.step(DrainBegin{ms(1000)});
  EXPECT_TRUE(all_of<Drained>(bench.finished(d, 1)).empty());
  EXPECT_EQ(all_of<Drained>(bench.commit()).size(), 1u);
}

TEST(Journal, OC_JOB_1014_a_job_that_is_being_committed_at_the_deadline_is_admitted_and_ends) {
  JournalBench bench;
  bench.ready();
  bench.submit(spec_of(1));
  bench.step(DrainBegin{ms(1000)});
  bench.open(1, 1);
  EXPECT_TRUE(admissions(bench.advance(ms(1500))).empty()) << "nobody is told before it is durable";
  const Effects last = bench.commit();
  EXPECT_EQ(admissions(last).size(), 1u);
  EXPECT_EQ(all_of<Drained>(last).size(), 1u);
  EXPECT_TRUE(bench.dispatches.empty());
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(outcome_code(bench.ends[0].failure), "CANCELED");
  EXPECT_EQ(bench.ends[0].failure->message, "the service is shutting down");
  EXPECT_EQ(bench.ends[0].cancel_reason, "drain");
}

TEST(JournalFailing, OC_JOB_1014_a_job_that_is_never_committed_is_not_told_of) {
  JournalBench bench;
  bench.ready();
  bench.submit(spec_of(1));
  bench.step(DrainBegin{ms(1000)});
  EXPECT_TRUE(all_of<Drained>(bench.advance(ms(2999))).empty());
  const Effects last = bench.advance(ms(1));
  EXPECT_EQ(all_of<Drained>(last).size(), 1u);
  EXPECT_TRUE(all_of<AdmissionReply>(last).empty()) << "whether the disk has it is not known";
  EXPECT_TRUE(bench.ends.empty());
}

// Nothing but its connection knows this job: no later start can tell its end.
TEST(JournalFailing, OC_JOB_1014_a_victim_without_a_record_ends_at_the_deadline_whatever_the_disk_does) {
  for (const bool committed : {true, false}) {
    Config config = journaled();
    config.queue.batch_capacity = 1;
    JournalBench bench{config};
    bench.step(ManagerUp{kLink, kManager, 1, {ready_replica()}});  // no lease: jobs wait
    JobSpec victim = attached(1);
    victim.priority = Priority::batch;
    bench.submit(victim, ReaderId{1});
    bench.submit(spec_of(2, Priority::batch));
    ASSERT_EQ(bench.core.find_job(job_id(1))->state, JobState::concluding);
    bench.step(DrainBegin{ms(1000)});
    EXPECT_EQ(shown(bench.advance(ms(999)), ReaderId{1}), "");
    EXPECT_EQ(shown(bench.advance(ms(1)), ReaderId{1}), "2 CANCELED, closed");
    ASSERT_EQ(bench.ends.size(), 1u);
    EXPECT_EQ(bench.ends[0].cancel_reason, "drain");
    if (committed) {
      EXPECT_EQ(admissions(bench.commit()).size(), 1u);
      EXPECT_TRUE(bench.core.drained());
    } else {
      EXPECT_EQ(outcome_code(refusal(bench.refuse())), "JOURNAL_UNAVAILABLE");
      EXPECT_TRUE(bench.core.drained());
    }
    EXPECT_EQ(bench.ends.size(), committed ? 2u : 1u);
  }
}

TEST(Journal, an_id_that_is_used_again_is_not_erased_with_its_first_job) {
  JournalBench bench;
  bench.ready();
  const Dispatch d = bench.running(1);
  bench.finished(d, 1);
  bench.commit();
  bench.advance(Duration::seconds(600));
  ASSERT_EQ(bench.core.find_job(job_id(1)), nullptr);  // its erase record waits for the next checkpoint
  bench.submit(spec_of(1));
  bench.commit();
  bench.advance(ms(300));
  bench.commit();
  EXPECT_TRUE(bench.disk.has(job_id(1)));
}

}  // namespace
}  // namespace orch::gateway
