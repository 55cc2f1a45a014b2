// Which request names which job by its Idempotency-Key (J5).
#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

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

// Who asks for the answer itself, as a chat request does.
TEST(Idempotency, OC_JOB_J7_a_repeat_is_told_that_the_result_was_dropped) {
  Config config = journaled();
  config.limits.finished_max = 1;
  JournalBench bench{config};
  bench.ready();
  for (std::uint8_t n = 1; n <= 2; ++n) {
    bench.submit(keyed(n, n, n));
    bench.commit();
    bench.now = bench.now + ms(1);
    bench.finished(bench.dispatches.back(), 1);
    bench.commit();
  }
  const auto again = [&] { return outcome_code(refusal(bench.submit(keyed(9, 1, 1), ReaderId{5}))); };
  EXPECT_EQ(again(), "RESULT_DROPPED");
  bench.advance(config.result_ttl);
  EXPECT_EQ(again(), "NOT_FOUND") << "its time would have been over";
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

// A disk may keep what it said it refused.
TEST(Idempotency, J5_the_key_of_an_admission_that_failed_names_nothing_after_a_restart) {
  JournalBench first;
  first.ready();
  first.submit(keyed(1, 1, 1));
  ASSERT_EQ(first.writes.size(), 1u);
  first.disk.apply(first.writes.front(), first.now);
  EXPECT_EQ(outcome_code(refusal(first.refuse())), "JOURNAL_UNAVAILABLE");
  first.advance(ms(100));
  first.refuse();
  first.advance(ms(1000));
  first.commit();
  EXPECT_FALSE(first.disk.has(job_id(1)));
  JournalBench second{first, ms(100)};
  second.ready();
  EXPECT_TRUE(all_of<AdmissionReply>(second.submit(keyed(2, 1, 1))).empty());
  const auto told = admissions(second.commit());
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].job, job_id(2));
  EXPECT_FALSE(told[0].repeated);
}

JobSpec to_be_counted(JobSpec spec) {
  spec.prompt_bytes = 2000;  // more than the context, at a token a byte
  return spec;
}

TEST(Idempotency, J5_a_repeat_while_the_tokens_are_counted_is_answered_with_the_first) {
  JournalBench bench;
  bench.ready();
  const auto counts = all_of<CountTokens>(bench.submit(to_be_counted(keyed(1, 1, 1))));
  ASSERT_EQ(counts.size(), 1u);
  EXPECT_TRUE(bench.submit(to_be_counted(keyed(2, 1, 1))).empty());
  EXPECT_EQ(outcome_code(refusal(bench.submit(to_be_counted(keyed(3, 1, 2))))), "CONFLICT");
  bench.step(TokensCounted{counts[0].request, 100});
  const auto told = admissions(bench.commit());
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].job, job_id(1));
  EXPECT_EQ(told[1].job, job_id(1));
  EXPECT_EQ(bench.core.jobs().size(), 1u);
  EXPECT_EQ(bench.core.keys().size(), 1u);
}

TEST(Idempotency, J5_a_chat_goes_on_for_a_repeat_whose_first_client_left) {
  const auto chat = [](std::uint64_t n) {
    JobSpec spec = keyed(n, 1, 1);
    spec.attachment = Attachment::attached;
    return spec;
  };
  for (const bool left_first : {true, false}) {
    JournalBench bench;
    bench.ready();
    bench.submit(chat(1), ReaderId{1});
    if (left_first) bench.step(ReaderGone{ReaderId{1}});
    bench.submit(chat(2), ReaderId{2});
    if (!left_first) bench.step(ReaderGone{ReaderId{1}});
    EXPECT_EQ(shown(bench.commit(), ReaderId{2}), "opened, 1 started");
    EXPECT_TRUE(bench.ends.empty());
  }
  JournalBench bench;
  bench.ready();
  bench.submit(chat(1), ReaderId{1});
  bench.submit(chat(2), ReaderId{2});
  bench.step(ReaderGone{ReaderId{1}});
  bench.step(ReaderGone{ReaderId{2}});
  bench.commit();
  bench.commit();
  EXPECT_EQ(bench.ends.size(), 1u) << "nobody is left";
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

}  // namespace
}  // namespace orch::gateway
