// What a later life makes of what the journal holds (J4, J7).
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

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

TEST(Recovery, J4_an_end_behind_tokens_that_were_given_up_shows_nobody_a_gap) {
  Config config = journaled();
  config.limits.unsaved_bytes_max = 800;
  JournalBench first{config};
  first.ready();
  const Dispatch d = first.running(1);
  first.token(d, 0, "a");
  first.advance(ms(250));
  first.commit();
  for (std::uint32_t i = 1; i < 9; ++i) first.token(d, i, "b");
  ASSERT_TRUE(first.core.find_job(job_id(1))->journal.tokens_given_up);
  first.finished(d, 9);
  first.commit();
  ASSERT_EQ(first.ends.size(), 1u);
  JournalBench second{first, Duration::seconds(5), config};
  EXPECT_EQ(shown(second.open(1, 1), ReaderId{1}), "refused SLOW_CONSUMER");
  EXPECT_EQ(shown(second.open(2, 1, 2), ReaderId{2}), "refused SLOW_CONSUMER");
  EXPECT_EQ(shown(second.open(3, 1, 10), ReaderId{3}), "opened, 11 end, closed");
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
  second.advance(ms(777));  // beats and renewals are not due at the same instant
  ReplicaView other = ready_replica();
  other.engine_version = "2";
  second.step(ManagerUp{kLink, kManager, 1, {other}});
  second.grant();
  EXPECT_TRUE(second.dispatches.empty());
  second.open(1, 1, 2);
  second.advance(Duration::seconds(60) - ms(778));
  EXPECT_EQ(shown(second.commit(), ReaderId{1}), "");
  EXPECT_EQ(second.core.next_wakeup(), second.now + ms(1));
  second.advance(ms(1));
  EXPECT_EQ(shown(second.commit(), ReaderId{1}), "13 WORKER_RESET, closed") << "nothing else has to happen";
}

TEST(Recovery, OC_CORE_1022_a_job_that_is_older_than_the_longest_wait_runs_all_the_same) {
  for (const bool ran : {false, true}) {
    JournalBench first;
    first.ready();
    if (ran) {
      first.token(first.running(1), 0, "a");
      first.advance(ms(250));
      first.commit();
    } else {
      first.submit(spec_of(1));
      first.commit_one();
    }
    JournalBench second{first, first.core.config().limits.queue_wait_max + ms(1)};
    second.ready();
    second.commit();
    EXPECT_EQ(second.dispatches.size(), 1u);
    EXPECT_TRUE(second.ends.empty());
  }
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

}  // namespace
}  // namespace orch::gateway
