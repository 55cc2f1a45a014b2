// Evictions that could not be journaled and have not happened: the victim goes on, and what was said to it meanwhile
// holds (OC-QUEUE-1008, J1, J6).
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

// Room for one job, which a newcomer takes.
Config one_place() {
  Config config = journaled();
  config.queue.capacity = config.queue.interactive_capacity = config.queue.batch_capacity = 1;
  config.queue.interactive_full_policy = FullPolicy::drop_lru;
  return config;
}

// No lease: job 1 waits, and reader 1 reads it; job 2 evicts it in a write that is under way.
struct TakenBack : JournalBench {
  TakenBack() : JournalBench(one_place()) {
    manager_up();
    commit();
    submit(spec_of(1));
    commit();
    open(1, 1);
    submit(spec_of(2));
    EXPECT_EQ(core.find_job(job_id(1))->state, JobState::concluding);
  }
  JobState state() const { return core.find_job(job_id(1))->state; }
};

TEST(TakenBack, OC_QUEUE_1008_the_victim_waits_on) {
  TakenBack bench;
  bench.refuse();
  EXPECT_EQ(bench.state(), JobState::waiting);
}

TEST(TakenBack, OC_CTRL_2012_a_cancel_that_was_answered_holds) {
  TakenBack bench;
  ASSERT_TRUE(all_of<CancelReply>(bench.step(CancelJob{RequestId{99}, job_id(1)})).at(0).found);
  Effects told = bench.refuse();
  for (int i = 0; i < 10; ++i) told = told + bench.advance(ms(500)) + bench.commit();
  EXPECT_EQ(shown(told, ReaderId{1}), "2 CANCELED, closed");
}

TEST(TakenBack, OC_JOB_1001_a_reader_that_left_meanwhile_has_its_grace) {
  TakenBack bench;
  bench.step(ReaderGone{ReaderId{1}});
  bench.refuse();
  EXPECT_EQ(bench.state(), JobState::waiting);
  for (int i = 0; i < 12; ++i) {
    bench.advance(ms(500));
    bench.commit();
  }
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].cancel_reason, "disconnect");
}

TEST(TakenBack, OC_JOB_1001_a_reader_that_came_back_meanwhile_keeps_it) {
  TakenBack bench;
  bench.step(ReaderGone{ReaderId{1}});
  bench.open(2, 1);
  bench.refuse();
  bench.advance(Duration::seconds(8));
  bench.commit();
  EXPECT_TRUE(bench.ends.empty());
}

// Its token waits for the record of an attempt that was lost; the eviction took the record along.
TEST(TakenBack, J4_the_record_that_its_tokens_wait_for_is_written_again) {
  JournalBench bench(one_place());
  bench.ready();
  bench.submit(spec_of(1));
  bench.commit_one();
  const Dispatch first = bench.dispatches.at(0);
  bench.open(1, 1);
  bench.started(first);
  bench.token(first, 0, "a");
  ReplicaView view = ready_replica();
  view.inc = {1, 2};
  view.state = ReplicaState::starting;
  bench.step(ReplicaChanged{kLink, view});
  ASSERT_EQ(bench.core.find_job(job_id(1))->state, JobState::waiting);
  const JournalTicket record = bench.writes.front().ticket;
  bench.writes.pop_front();
  bench.submit(spec_of(2));
  ASSERT_EQ(bench.core.find_job(job_id(1))->state, JobState::concluding);
  bench.step(JournalFailed{record, record, "disk full"});
  Effects told = bench.refuse();
  view.state = ReplicaState::ready;
  bench.step(ReplicaChanged{kLink, view});
  bench.grant(2, {1, 2}, "r1", {1, 2});
  for (int i = 0; i < 20; ++i) told = told + bench.advance(ms(500)) + bench.commit();
  EXPECT_EQ(shown(told, ReaderId{1}), "2 token a");
  ASSERT_EQ(bench.dispatches.size(), 2u);
  EXPECT_EQ(shown(bench.token(bench.dispatches[1], 1, "b"), ReaderId{1}), "3 token b");
}

TEST(TakenBack, J6_what_was_counted_while_the_journal_began_to_fail_is_refused) {
  JournalBench bench;
  bench.ready();
  JobSpec large = spec_of(2);
  large.prompt_bytes = 2000;
  const auto counts = all_of<CountTokens>(bench.submit(large));
  ASSERT_EQ(counts.size(), 1u);
  bench.submit(spec_of(1));
  bench.refuse();
  ASSERT_TRUE(bench.core.journal().failing());
  EXPECT_EQ(outcome_code(refusal(bench.step(TokensCounted{counts[0].request, 100}))), "JOURNAL_UNAVAILABLE");
}

}  // namespace
}  // namespace orch::gateway
