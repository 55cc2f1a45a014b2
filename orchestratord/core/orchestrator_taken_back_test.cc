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

// Its class is full again by then. It had its place, and refusing it would make the eviction happen after all.
TEST(TakenBack, OC_QUEUE_1008_the_victim_of_an_eviction_that_did_not_happen_stands_outside_the_bounds) {
  Config config = journaled();
  config.queue.capacity = config.queue.interactive_capacity = 2;
  config.queue.batch_capacity = 1;
  config.queue.interactive_full_policy = FullPolicy::shed_low_priority;
  JournalBench bench(config);
  bench.manager_up();
  bench.submit(spec_of(1));
  bench.submit(spec_of(2, Priority::batch));
  bench.commit();
  bench.submit(spec_of(3));
  ASSERT_EQ(bench.core.find_job(job_id(2))->state, JobState::concluding);
  const JournalTicket eviction = bench.writes.front().ticket;
  bench.writes.pop_front();
  bench.step(CancelJob{RequestId{99}, job_id(1)});
  bench.submit(spec_of(4, Priority::batch));
  ASSERT_EQ(bench.core.find_job(job_id(4))->state, JobState::committing);
  bench.step(JournalFailed{eviction, eviction, "disk full for a moment"});
  EXPECT_EQ(bench.core.find_job(job_id(2))->state, JobState::waiting);
  bench.commit();
  EXPECT_EQ(bench.core.find_job(job_id(4))->state, JobState::waiting);
  EXPECT_EQ(bench.core.queue().size(Priority::batch), 2u);
}

// Its client has text, and it runs on elsewhere: it only waits between two attempts.
TEST(TakenBack, OC_QUEUE_1007_a_job_that_has_shown_tokens_is_no_victim) {
  for (const bool shown : {true, false}) {
    JournalBench bench(one_place());
    bench.ready();
    const Dispatch first = bench.running(1);
    if (shown) bench.token(first, 0, "a");
    ReplicaView view = ready_replica();
    view.inc = {1, 2};
    view.state = ReplicaState::starting;
    bench.step(ReplicaChanged{kLink, view});
    ASSERT_EQ(bench.core.find_job(job_id(1))->state, JobState::waiting);
    const Effects asked = bench.submit(spec_of(2));
    EXPECT_EQ(bench.core.find_job(job_id(1))->state, shown ? JobState::waiting : JobState::concluding);
    EXPECT_EQ(all_of<AdmissionReply>(asked).size(), shown ? 1u : 0u);
    if (shown) EXPECT_EQ(outcome_code(refusal(asked)), "ADMISSION_REJECT");
  }
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
