// Which results are kept, and what is known of those that are not.
#include "orchestratord/core/result_shelf.h"

#include <gtest/gtest.h>

#include "orchestratord/core/journal_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

const auto nobody = [](JobId) { return false; };  // is reading
Instant at(std::int64_t second) { return Instant{} + Duration::seconds(second); }

TEST(ResultShelf, OC_JOB_J7_read_ones_go_first_then_the_oldest_of_whoever_keeps_the_most) {
  ResultShelf shelf(3, 1'000);
  shelf.add(job_id(1), {"quiet", at(1), 10, false});
  shelf.add(job_id(2), {"loud", at(2), 10, false});
  shelf.add(job_id(3), {"loud", at(3), 10, false});
  EXPECT_FALSE(shelf.surplus(nobody));
  shelf.add(job_id(4), {"loud", at(4), 10, false});
  EXPECT_EQ(shelf.surplus(nobody), job_id(2)) << "not the oldest of all";
  shelf.note_read(job_id(4));
  EXPECT_EQ(shelf.surplus(nobody), job_id(4));
  shelf.remove(job_id(4));
  EXPECT_FALSE(shelf.surplus(nobody));
  shelf.add(job_id(5), {"quiet", at(5), 995, false});
  EXPECT_TRUE(shelf.surplus(nobody)) << "too many, and too many bytes";
  shelf.remove(job_id(1));
  shelf.remove(job_id(2));
  EXPECT_TRUE(shelf.surplus(nobody)) << "1,005 bytes";
  shelf.remove(job_id(3));
  EXPECT_FALSE(shelf.surplus(nobody));
}

TEST(ResultShelf, OC_JOB_J7_what_is_being_read_goes_last) {
  ResultShelf shelf(1, 1'000);
  for (std::uint64_t n = 1; n <= 3; ++n) shelf.add(job_id(n), {"t", at(static_cast<std::int64_t>(n)), 10, n == 3});
  const auto is = [](std::uint64_t n) { return [n](JobId job) { return job == job_id(n); }; };
  EXPECT_EQ(shelf.surplus(is(1)), job_id(3));
  EXPECT_EQ(shelf.surplus(is(3)), job_id(3)) << "somebody has had it, and nobody the others";
  shelf.remove(job_id(3));
  EXPECT_EQ(shelf.surplus(is(1)), job_id(2));
  EXPECT_EQ(shelf.surplus([](JobId) { return true; }), job_id(1)) << "the bound holds";
}

TEST(ResultShelf, OC_JOB_J7_what_was_dropped_is_known_until_its_time_is_over) {
  ResultShelf shelf(1, 1);
  shelf.note_dropped(job_id(1), "t", at(10));
  shelf.note_dropped(job_id(2), "t", at(20));
  ASSERT_NE(shelf.dropped(job_id(1)), nullptr);
  EXPECT_EQ(*shelf.dropped(job_id(1)), "t");
  EXPECT_EQ(shelf.next_expiry(), at(10));
  shelf.expire(at(10));
  EXPECT_EQ(shelf.dropped(job_id(1)), nullptr);
  shelf.forget_dropped(job_id(2));
  EXPECT_EQ(shelf.dropped(job_id(2)), nullptr);
  EXPECT_TRUE(shelf.next_expiry().is_never());
}

std::string answer_to(Bench& bench, std::uint64_t job, std::optional<std::string> tenant = std::nullopt) {
  return shown(bench.step(OpenStream{ReaderId{77}, job_id(job), std::nullopt, std::move(tenant)}), ReaderId{77});
}

void finish_one(Bench& bench, std::uint64_t n, const std::string& tenant = "default") {
  JobSpec spec = spec_of(n);
  spec.tenant = tenant;
  bench.submit(spec);
  bench.now = bench.now + ms(1);
  bench.finished(bench.dispatches.back(), 1);
}

TEST(Results, OC_JOB_J7_an_answer_that_made_room_is_said_to_have) {
  Config config;
  config.limits.finished_max = 2;
  Bench bench{config};
  bench.ready();
  for (std::uint64_t n = 1; n <= 3; ++n) finish_one(bench, n);
  EXPECT_EQ(answer_to(bench, 1), "refused RESULT_DROPPED");
  EXPECT_EQ(answer_to(bench, 1, "default"), "refused RESULT_DROPPED");
  EXPECT_EQ(answer_to(bench, 1, "another"), "refused NOT_FOUND") << "a stranger is told what a guess would be";
  EXPECT_EQ(answer_to(bench, 9), "refused NOT_FOUND");
  EXPECT_TRUE(all_of<CancelReply>(bench.step(CancelJob{RequestId{5}, job_id(1)})).at(0).found) << "it has ended";
  EXPECT_EQ(answer_to(bench, 2), "opened, 1 started, 2 end, closed");
  finish_one(bench, 4);
  EXPECT_EQ(answer_to(bench, 2), "refused RESULT_DROPPED") << "the younger one has not been read";
  EXPECT_EQ(answer_to(bench, 3), "opened, 1 started, 2 end, closed");
  bench.advance(Config{}.result_ttl);
  EXPECT_EQ(answer_to(bench, 1), "refused NOT_FOUND");
}

TEST(Results, OC_JOB_J7_an_id_that_was_dropped_names_a_new_task_when_it_is_posted_again) {
  Config config;
  config.limits.finished_max = 1;
  Bench bench{config};
  bench.ready();
  finish_one(bench, 1);
  finish_one(bench, 2);
  finish_one(bench, 1);
  EXPECT_EQ(answer_to(bench, 1), "opened, 1 started, 2 end, closed");
  EXPECT_EQ(answer_to(bench, 2), "refused RESULT_DROPPED");
}

// Its connection breaks behind the first portion of three.
TEST(Results, OC_JOB_J7_read_is_what_was_given_to_its_end) {
  Config config;
  config.limits.finished_max = 2;
  config.streams.replay_bytes = 1;
  Bench bench{config};
  bench.ready();
  for (std::uint64_t n = 1; n <= 2; ++n) finish_one(bench, n);
  EXPECT_EQ(answer_to(bench, 2), "opened, 1 started");
  bench.step(ReaderGone{ReaderId{77}, false});
  finish_one(bench, 3);
  EXPECT_EQ(answer_to(bench, 1), "refused RESULT_DROPPED") << "the oldest: nobody has been given the end of one";
  EXPECT_EQ(answer_to(bench, 2), "opened, 1 started");
  EXPECT_EQ(shown(bench.step(ReaderDrained{ReaderId{77}}), ReaderId{77}), "2 end, closed");
  finish_one(bench, 4);
  EXPECT_EQ(answer_to(bench, 2), "refused RESULT_DROPPED") << "now it has been read";
}

TEST(Results, OC_JOB_J7_a_reader_that_is_behind_at_the_end_has_not_read_it) {
  Config config;
  config.limits.finished_max = 1;
  config.streams.replay_bytes = 1;
  Bench bench{config};
  bench.ready();
  bench.submit(spec_of(1));
  bench.token(bench.dispatches.back(), 0, "a");
  bench.step(OpenStream{ReaderId{1}, job_id(1), std::nullopt, {}});
  bench.finished(bench.dispatches.back(), 1);
  bench.step(ReaderGone{ReaderId{1}, false});
  EXPECT_FALSE(bench.core.find_job(job_id(1)) == nullptr);
  bench.submit(spec_of(2));
  bench.step(OpenStream{ReaderId{2}, job_id(2), std::nullopt, {}});
  bench.now = bench.now + ms(1);
  bench.finished(bench.dispatches.back(), 1);
  EXPECT_EQ(answer_to(bench, 2), "refused RESULT_DROPPED") << "its reader has had it all";
  EXPECT_EQ(answer_to(bench, 1), "opened, 1 started");
}

// --- results that go while somebody reads them ---

Config in_portions() {
  Config config;
  config.streams.replay_bytes = 1;
  return config;
}

// Job `n` has ended with one token, and reader `n` has had its first portion of three. What its end brought about.
Effects begin_reading(Bench& bench, std::uint64_t n) {
  bench.submit(spec_of(n));
  bench.token(bench.dispatches.back(), 0, "a");
  EXPECT_EQ(shown(bench.step(OpenStream{ReaderId{n}, job_id(n), std::nullopt, {}}), ReaderId{n}), "opened, 1 started");
  bench.now = bench.now + ms(1);
  return bench.finished(bench.dispatches.back(), 1);
}
std::string next_portion(Bench& bench, std::uint64_t n) {
  return shown(bench.step(ReaderDrained{ReaderId{n}}), ReaderId{n});
}

TEST(Results, OC_JOB_J7_who_reads_when_the_time_is_over_is_given_the_rest_in_portions) {
  Bench bench{in_portions()};
  bench.ready();
  begin_reading(bench, 1);
  EXPECT_EQ(shown(bench.advance(Config{}.result_ttl), ReaderId{1}), "");
  EXPECT_EQ(answer_to(bench, 1), "refused NOT_FOUND") << "nobody else";
  EXPECT_EQ(next_portion(bench, 1), "2 token a");
  ASSERT_NE(bench.core.find_job(job_id(1)), nullptr);
  EXPECT_EQ(next_portion(bench, 1), "3 end, closed");
  EXPECT_EQ(bench.core.find_job(job_id(1)), nullptr) << "and then it is gone";
}

TEST(Results, OC_JOB_J7_who_reads_for_too_long_is_cut_off) {
  Bench bench{in_portions()};
  bench.ready();
  begin_reading(bench, 1);
  bench.advance(Config{}.result_ttl);
  EXPECT_EQ(next_portion(bench, 1), "2 token a");
  EXPECT_EQ(shown(bench.advance(Limits{}.read_out_max - ms(1)), ReaderId{1}), "");
  EXPECT_EQ(shown(bench.advance(ms(1)), ReaderId{1}), "cut");
  EXPECT_EQ(bench.core.find_job(job_id(1)), nullptr);
  bench.step(ReaderGone{ReaderId{1}, true});
}

TEST(Results, OC_JOB_J7_an_id_that_is_posted_and_refused_cuts_nobody_off) {
  Bench bench{in_portions()};
  bench.ready();
  begin_reading(bench, 1);
  bench.advance(Config{}.result_ttl);
  JobSpec nowhere = spec_of(1);
  nowhere.model_ref = "nobody";
  EXPECT_EQ(shown(bench.submit_body(nowhere), ReaderId{1}), "");
  EXPECT_EQ(next_portion(bench, 1), "2 token a");
  EXPECT_EQ(shown(bench.submit_body(spec_of(1)), ReaderId{1}), "cut") << "one that is taken does";
  ASSERT_NE(bench.core.find_job(job_id(1)), nullptr);
  EXPECT_TRUE(bench.core.find_job(job_id(1))->live());
}

TEST(Results, OC_JOB_J7_a_reader_that_leaves_takes_its_result_along) {
  Bench bench{in_portions()};
  bench.ready();
  begin_reading(bench, 1);
  bench.advance(Config{}.result_ttl);
  bench.step(ReaderGone{ReaderId{1}, false});
  EXPECT_EQ(bench.core.find_job(job_id(1)), nullptr);
}

TEST(Results, OC_JOB_J7_so_is_who_reads_what_others_need_the_room_of) {
  Config config = in_portions();
  config.limits.finished_max = 1;
  config.limits.read_out_jobs_max = 2;
  Bench bench{config};
  bench.ready();
  begin_reading(bench, 1);
  begin_reading(bench, 2);
  EXPECT_EQ(answer_to(bench, 1), "refused RESULT_DROPPED");
  EXPECT_EQ(next_portion(bench, 1), "2 token a");
  begin_reading(bench, 3);
  EXPECT_EQ(shown(begin_reading(bench, 4), ReaderId{1}), "cut") << "the oldest of three";
  EXPECT_EQ(next_portion(bench, 2), "2 token a");
  EXPECT_EQ(next_portion(bench, 3), "2 token a");
  const Effects posted = bench.submit(spec_of(2));
  EXPECT_EQ(shown(posted, ReaderId{2}), "cut") << "its id names another task now";
  EXPECT_FALSE(refusal(posted));
}

// Ten minutes of a busy small model: two thousand answers that nobody has read yet.
TEST(Results, OC_JOB_J7_two_thousand_unread_answers_are_kept) {
  LongBench bench;
  bench.ready(1);
  for (std::uint64_t n = 1; n <= 2'000; ++n) finish_one(bench, n);
  for (const std::uint64_t n : {1ull, 2ull, 976ull, 977ull, 2'000ull})
    EXPECT_EQ(answer_to(bench, n), "opened, 1 started, 2 end, closed") << n;
}

}  // namespace
}  // namespace orch::gateway
