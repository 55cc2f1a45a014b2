// The journal as the core uses it: what may be told when, and what a later life makes of what it finds (J1 to J7).
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

std::string outcome_code(const std::optional<Failure>& failure) {
  return failure ? std::string(outcome_row(failure->outcome).code) : "none";
}
JobSpec attached(std::uint64_t n) {
  JobSpec spec = spec_of(n);
  spec.attachment = Attachment::attached;
  return spec;
}
JobSpec keyed(std::uint64_t n, std::uint8_t key, std::uint8_t body) {
  JobSpec spec = spec_of(n);
  spec.idempotency = Idempotency{};
  spec.idempotency->key[0] = key;
  spec.idempotency->body[0] = body;
  return spec;
}
std::vector<Admitted> admissions(const Effects& effects) {
  std::vector<Admitted> out;
  for (const AdmissionReply& reply : all_of<AdmissionReply>(effects)) {
    if (const auto* admitted = std::get_if<Admitted>(&reply.result)) out.push_back(*admitted);
  }
  return out;
}

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
  bench.submit(attached(1), ReaderId{1});
  for (std::uint32_t i = 0; i < 5; ++i) bench.token(bench.dispatches[0], i, "x");
  bench.advance(ms(1000));
  bench.finished(bench.dispatches[0], 5);
  bench.submit(attached(2), ReaderId{2});
  bench.step(ReaderGone{ReaderId{2}});
  bench.advance(Duration::seconds(700));
  EXPECT_EQ(bench.ends.size(), 2u);
  EXPECT_EQ(bench.written, 0u);
  bench.submit(spec_of(3));
  EXPECT_EQ(bench.written, 1u) << "a posted task does";
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
  EXPECT_TRUE(bench.dispatches.empty());
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

// --- J4: the next life ---

TEST(Recovery, J4_a_finished_job_is_replayed_with_its_ids) {
  JournalBench first;
  first.ready();
  const Dispatch d = first.running(1);
  first.token(d, 0, "a");
  first.token(d, 1, "b");
  first.finished(d, 2);
  first.commit();
  JournalBench second{first, Duration::seconds(5)};
  EXPECT_EQ(shown(second.open(1, 1), ReaderId{1}), "opened, 1 started, 2 token a, 3 token b, 4 end, closed");
  EXPECT_EQ(shown(second.open(2, 1, 3), ReaderId{2}), "opened, 4 end, closed");
  EXPECT_EQ(all_of<NotedRecovered>(second.recovery).at(0).way, NotedRecovered::Way::replayed);
}

TEST(Recovery, J7_the_rest_of_the_ttl_counts_and_then_the_journal_forgets) {
  JournalBench first;
  first.ready();
  const Dispatch d = first.running(1);
  first.finished(d, 1);
  first.commit();
  JournalBench second{first, Duration::seconds(400)};
  second.advance(Duration::seconds(199));
  EXPECT_NE(second.core.find_job(job_id(1)), nullptr);
  second.advance(Duration::seconds(2));
  EXPECT_EQ(second.core.find_job(job_id(1)), nullptr);
  second.commit();
  EXPECT_EQ(second.disk.size(), 0u);
}

TEST(Recovery, J4_nothing_sent_runs_again) {
  JournalBench first;
  first.ready();
  first.submit(spec_of(1));
  first.commit_one();  // the dispatch record does not make it
  ASSERT_EQ(first.dispatches.size(), 1u);
  JournalBench second{first, ms(100)};
  EXPECT_EQ(all_of<NotedRecovered>(second.recovery).at(0).way, NotedRecovered::Way::run_again);
  second.ready();
  ASSERT_EQ(second.dispatches.size(), 1u);
  EXPECT_TRUE(second.dispatches[0].resume_ids.empty());
  second.commit();
  second.open(1, 1);
  EXPECT_EQ(shown(second.token(second.dispatches[0], 0, "a"), ReaderId{1}), "2 token a");
}

// The client saw five tokens, the journal has three.
TEST(Recovery, J4_class_X_goes_on_behind_what_the_client_saw) {
  JournalBench first;
  first.ready();
  const Dispatch d = first.running(1);
  for (std::uint32_t i = 0; i < 3; ++i) first.token(d, i, std::to_string(i));
  first.advance(ms(250));
  first.commit();
  first.open(1, 1);
  for (std::uint32_t i = 3; i < 5; ++i) first.token(d, i, std::to_string(i));

  JournalBench second{first, ms(700)};
  EXPECT_EQ(shown(second.open(1, 1, 6), ReaderId{1}), "opened") << "ids 1 to 6 were seen";
  EXPECT_EQ(shown(second.open(2, 1), ReaderId{2}), "opened, 1 started, 2 token 0, 3 token 1, 4 token 2");
  second.ready();
  ASSERT_EQ(second.dispatches.size(), 1u);
  EXPECT_EQ(second.dispatches[0].resume_ids, (std::vector<std::uint32_t>{100, 101, 102}));
  EXPECT_GT(second.dispatches[0].dispatch.attempt, d.dispatch.attempt);
  Effects told;
  for (std::uint32_t i = 3; i < 6; ++i) told = told + second.token(second.dispatches[0], i, std::to_string(i));
  EXPECT_EQ(shown(told, ReaderId{1}), "7 token 5");
  EXPECT_EQ(shown(told, ReaderId{2}), "5 token 3, 6 token 4, 7 token 5");
  second.finished(second.dispatches[0], 6);
  EXPECT_EQ(shown(second.commit(), ReaderId{1}), "8 end, closed");
}

TEST(Recovery, J4_it_goes_on_only_where_the_bytes_will_be_the_same) {
  JournalBench first;
  first.ready();
  const Dispatch d = first.running(1);
  first.token(d, 0, "a");
  first.advance(ms(250));
  first.commit();
  JournalBench second{first, ms(100)};
  ReplicaView other = ready_replica();
  other.engine_version = "2";
  second.step(ManagerUp{kLink, kManager, 1, {other}});
  second.grant();
  EXPECT_TRUE(second.dispatches.empty());
  second.open(1, 1, 2);
  other.last_error = "noise";
  second.advance(Duration::seconds(61));
  second.step(ReplicaChanged{kLink, other});
  EXPECT_EQ(shown(second.commit(), ReaderId{1}), "13 WORKER_RESET, closed");
}

TEST(Recovery, J4_another_class_ends_in_one_retriable_error_behind_everything_seen) {
  JournalBench first;
  ReplicaView external = ready_replica();
  external.numeric_class = "none";
  first.step(ManagerUp{kLink, kManager, 1, {external}});
  first.grant();
  const Dispatch d = first.running(1);
  first.token(d, 0, "a");
  first.advance(ms(250));
  first.commit();
  first.token(d, 1, "b");
  JournalBench second{first, ms(100)};
  const Effects waiting = second.open(1, 1, 3);  // it saw b
  EXPECT_EQ(shown(waiting, ReaderId{1}), "opened");
  // max_tokens is 10: started, ten tokens and what they hold back are at most ids 1 to 12.
  EXPECT_EQ(shown(second.commit(), ReaderId{1}), "13 WORKER_RESET, closed");
  EXPECT_EQ(shown(second.open(2, 1, 12), ReaderId{2}), "opened, 13 WORKER_RESET, closed");
  EXPECT_EQ(shown(second.open(3, 1, 13), ReaderId{3}), "opened, closed");
  EXPECT_EQ(shown(second.open(4, 1, 14), ReaderId{4}), "refused INVALID_PARAMS");
  JournalBench third{second, ms(100)};
  EXPECT_EQ(shown(third.open(1, 1, 5), ReaderId{1}), "opened, 13 WORKER_RESET, closed");
  ASSERT_EQ(second.ends.size(), 1u);
  EXPECT_TRUE(outcome_row(second.ends[0].failure->outcome).retriable);
}

TEST(Recovery, J4_a_terminal_that_did_not_commit_was_not_told_and_is_made_again) {
  JournalBench first;
  first.ready();
  const Dispatch d = first.running(1);
  first.token(d, 0, "a");
  first.open(1, 1);
  EXPECT_EQ(shown(first.finished(d, 1), ReaderId{1}), "");
  JournalBench second{first, ms(100)};
  second.ready();
  ASSERT_EQ(second.dispatches.size(), 1u);
  EXPECT_TRUE(second.dispatches[0].resume_ids.empty()) << "the token was not checkpointed";
  second.open(1, 1, 2);
  Effects told = second.token(second.dispatches[0], 0, "a");
  told = told + second.finished(second.dispatches[0], 1);
  EXPECT_EQ(shown(told + second.commit(), ReaderId{1}), "3 end, closed");
}

TEST(Recovery, J4_batches_of_tokens_are_numbered_token_by_token) {
  JournalBench bench;
  bench.ready();
  const Dispatch d = bench.running(1);
  bench.open(1, 1);
  // Three ids: the first two complete one code point together, the text behind the last end belongs to no id.
  const Effects told =
      bench.step(DispatchTokens{d.dispatch, d.fence, 0, {1, 2, 3}, "\xC3\xA9x!", std::vector<std::uint32_t>{0, 2, 3}});
  EXPECT_EQ(shown(told, ReaderId{1}), "2 token \xC3\xA9, 3 token x, 4 token !");
}

TEST(Recovery, an_attached_job_died_with_its_connection) {
  Config config = journaled();
  config.journal.plain_openai = true;
  JournalBench first{config};
  first.ready();
  first.submit(attached(1), ReaderId{1});
  first.commit();
  JournalBench second{first, ms(100), config};
  second.commit();
  ASSERT_EQ(second.ends.size(), 1u);
  EXPECT_EQ(outcome_code(second.ends[0].failure), "CANCELED");
}

TEST(Recovery, J7_without_store_ids_survive_and_content_does_not) {
  JournalBench first;
  first.ready();
  JobSpec spec = spec_of(1);
  spec.store = false;
  first.submit(spec);
  first.commit();
  first.commit();
  first.token(first.dispatches[0], 0, "secret");
  first.advance(ms(300));
  first.commit();
  EXPECT_EQ(first.disk.tokens(job_id(1)), 0u);
  EXPECT_EQ(first.disk.job(job_id(1)).admit.spec.payload, nullptr);
  JournalBench second{first, ms(100)};
  second.commit();
  EXPECT_EQ(shown(second.open(1, 1, 2), ReaderId{1}), "opened, 13 WORKER_RESET, closed");
}

TEST(Recovery, a_recovered_job_waits_for_its_manager) {
  JournalBench first;
  first.ready();
  first.submit(spec_of(1));
  first.commit();
  JournalBench second{first, ms(100)};
  second.step(ManagerUp{LinkId{7}, ManagerId{{0xB0, 2}}, 1, {ready_replica("other", "another-model")}});
  second.commit();
  EXPECT_TRUE(second.ends.empty());
  second.ready();
  EXPECT_EQ(second.dispatches.size(), 1u);
}

// --- J5 ---

TEST(Idempotency, J5_the_same_body_names_the_same_job_and_another_is_a_conflict) {
  JournalBench bench;
  bench.ready();
  bench.submit(keyed(1, 1, 1));
  bench.commit();
  const auto again = admissions(bench.submit(keyed(2, 1, 1)));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].job, job_id(1));
  EXPECT_TRUE(again[0].repeated);
  const auto other = refusal(bench.submit(keyed(3, 1, 2)));
  EXPECT_EQ(outcome_code(other), "CONFLICT");
  EXPECT_EQ(other->field, "Idempotency-Key");
  bench.submit(keyed(4, 2, 1));
  EXPECT_EQ(admissions(bench.commit()).at(0).job, job_id(4));
}

TEST(Idempotency, J5_a_repeat_during_the_commit_is_answered_with_the_first) {
  for (const bool committed : {true, false}) {
    JournalBench bench;
    bench.ready();
    bench.submit(keyed(1, 1, 1));
    EXPECT_TRUE(all_of<AdmissionReply>(bench.submit(keyed(2, 1, 1))).empty());
    const Effects told = committed ? bench.commit() : bench.refuse();
    EXPECT_EQ(all_of<AdmissionReply>(told).size(), 2u);
    EXPECT_EQ(admissions(told).size(), committed ? 2u : 0u);
    EXPECT_EQ(bench.core.keys().size(), committed ? 1u : 0u) << "a refused request names no job";
  }
}

TEST(Idempotency, J5_it_survives_a_restart_and_the_result_and_expires_after_a_day) {
  JournalBench first;
  first.ready();
  first.submit(keyed(1, 1, 1));
  first.commit();
  first.commit();
  first.finished(first.dispatches[0], 1);
  first.commit();
  first.advance(Duration::seconds(700));  // the result is gone
  first.commit();
  EXPECT_EQ(first.disk.size(), 0u);
  JournalBench second{first, Duration::seconds(3600)};
  EXPECT_EQ(admissions(second.submit(keyed(2, 1, 1))).at(0).job, job_id(1));
  EXPECT_EQ(outcome_code(refusal(second.submit(keyed(2, 1, 9)))), "CONFLICT");
  second.advance(Duration::seconds(86400));
  EXPECT_EQ(second.core.keys().size(), 0u);
}

TEST(Idempotency, J5_keys_are_bounded) {
  Config config = journaled();
  config.journal.idempotency_keys_max = 1;
  JournalBench bench{config};
  bench.ready();
  bench.submit(keyed(1, 1, 1));
  bench.commit();
  const auto refused = refusal(bench.submit(keyed(2, 2, 1)));
  EXPECT_EQ(outcome_code(refused), "ADMISSION_REJECT");
  ASSERT_TRUE(refused->retry_after);
  EXPECT_NE(refused->message.find("idempotency_keys_max = 1"), std::string::npos);
  Bench off;
  off.ready();
  EXPECT_EQ(outcome_code(refusal(off.submit(keyed(1, 1, 1)))), "NOT_IMPLEMENTED");
}

TEST(Idempotency, J5_a_repeated_chat_request_reads_the_first_ones_answer) {
  JournalBench bench;
  bench.ready();
  bench.submit(keyed(1, 1, 1), ReaderId{1});
  bench.commit();
  bench.commit();
  bench.token(bench.dispatches[0], 0, "a");
  EXPECT_EQ(shown(bench.submit(keyed(2, 1, 1), ReaderId{2}), ReaderId{2}), "opened, 1 started, 2 token a");
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
