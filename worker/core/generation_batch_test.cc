#include "worker/core/generation_batch.h"

#include <gtest/gtest.h>

#include <set>

#include "common/base/prng.h"
#include "worker/core/batch_world_fixture.h"
#include "worker/text/utf8.h"

namespace orch::worker {
namespace {

using testing::alone;
using testing::Answer;
using testing::job;
using testing::kVocabulary;
using testing::request;
using testing::World;

std::string long_prompt(std::uint64_t number) { return std::string(30 + number * 37, static_cast<char>('a' + number)); }

TEST(GenerationBatch, a_result_does_not_depend_on_the_neighbours_or_the_chunking) {
  for (const std::uint32_t rows_max : {4u, 5u, 33u, 256u}) {
    World world({.rows_max = rows_max});
    // Jobs arrive while others are in every phase.
    for (std::uint64_t number = 0; number < 4; ++number) {
      EXPECT_FALSE(world.admit(request(number, long_prompt(number), 40, 0.9F)).has_value());
      for (std::uint64_t i = 0; i < number; ++i) world.step();
    }
    world.run();
    for (std::uint64_t number = 0; number < 4; ++number) {
      EXPECT_EQ(world.answers[job(number)].ids, alone(request(number, long_prompt(number), 40, 0.9F)).ids) << rows_max;
    }
    for (const std::uint32_t rows : world.backend.rows_of_steps) EXPECT_LE(rows, rows_max);
    EXPECT_EQ(world.batch.pages_used(), 0u);
  }
}

TEST(GenerationBatch, decoding_goes_on_while_a_prompt_is_fed) {
  World world({.rows_max = 8});
  ASSERT_FALSE(world.admit(request(1, "a", 200)).has_value());
  world.step();
  ASSERT_FALSE(world.admit(request(2, std::string(300, 'b'), 4)).has_value());
  const std::size_t before = world.answers[job(1)].ids.size();
  for (int i = 0; i < 10; ++i) world.step();
  EXPECT_EQ(world.answers[job(1)].ids.size(), before + 10);
  EXPECT_TRUE(world.answers[job(2)].ids.empty());
}

TEST(GenerationBatch, M2_a_resumed_sequence_equals_the_uninterrupted_one) {
  const SequenceRequest whole = request(3, long_prompt(3), 60, 1.1F);
  const Answer expected = alone(whole);
  ASSERT_EQ(expected.ids.size(), 60u);
  for (const std::size_t cut : {1u, 7u, 31u, 59u}) {
    World world;
    SequenceRequest rest = whole;
    rest.resume_ids.assign(expected.ids.begin(), expected.ids.begin() + static_cast<std::ptrdiff_t>(cut));
    world.first_index[rest.id] = cut;
    ASSERT_FALSE(world.admit(rest).has_value());
    world.run();
    std::vector<TokenId> joined = rest.resume_ids;
    const Answer& answer = world.answers[rest.id];
    joined.insert(joined.end(), answer.ids.begin(), answer.ids.end());
    EXPECT_EQ(joined, expected.ids) << cut;
    // The parts released before the cut and after it are the whole text, held-back bytes included.
    std::string text;
    for (std::size_t i = 0; i < cut; ++i) text += expected.parts[i];
    EXPECT_EQ(text + answer.text, expected.text) << cut;
    EXPECT_EQ(answer.result->completion_tokens, 60u);
  }
}

TEST(GenerationBatch, M2_resume_replays_bytes_and_stop_strings_that_were_held_back) {
  const std::string said = "a\xE2\x82\xAC END b";
  for (std::size_t cut = 1; cut < 8; ++cut) {
    World world({}, testing::saying(said, 2));
    SequenceRequest rest = request(1, "ab", 100);
    rest.stop = {"END"};
    for (std::size_t i = 0; i < cut; ++i)
      rest.resume_ids.push_back(testing::kFirstByte + static_cast<unsigned char>(said[i]));
    world.first_index[rest.id] = cut;
    ASSERT_FALSE(world.admit(rest).has_value());
    world.run();
    // Released before the cut: whole code points that cannot begin a stop string.
    const std::string before = cut < 4 ? "a" : cut < 5 ? "a\xE2\x82\xAC" : "a\xE2\x82\xAC ";
    EXPECT_EQ(before + world.answers[job(1)].text, "a\xE2\x82\xAC ") << cut;
    EXPECT_EQ(world.answers[job(1)].result->reason, FinishReason::stop) << cut;
  }
}

TEST(GenerationBatch, every_position_draws_its_own_number) {
  // Flat logits: only the position can make a difference between one draw and the next.
  World world({}, [](const std::vector<TokenId>&, std::span<float> logits) {
    for (float& logit : logits) logit = 0;
    logits[testing::kEndToken] = -60;
  });
  ASSERT_FALSE(world.admit(request(1, "ab", 50, 1.0F)).has_value());
  world.run();
  const std::vector<TokenId>& ids = world.answers[job(1)].ids;
  EXPECT_GT(std::set<TokenId>(ids.begin(), ids.end()).size(), 25u);
}

TEST(GenerationBatch, resume_ids_that_complete_the_job_end_it_without_a_step) {
  World world;
  SequenceRequest done = request(1, "ab", 2);
  done.resume_ids = {5, 6};
  ASSERT_FALSE(world.admit(done).has_value());
  EXPECT_FALSE(world.step());
  ASSERT_TRUE(world.answers[job(1)].result.has_value());
  EXPECT_EQ(world.answers[job(1)].result->reason, FinishReason::length);
}

TEST(GenerationBatch, text_is_never_cut_inside_a_code_point) {
  const std::string said = "h\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x8C\xA7 end";
  World world({}, testing::saying(said, 2));
  ASSERT_FALSE(world.admit(request(1, "ab", 100)).has_value());
  world.run();
  const Answer& answer = world.answers[job(1)];
  for (const std::string& part : answer.parts) EXPECT_TRUE(is_valid_utf8(part));
  EXPECT_EQ(answer.text, said);
  EXPECT_EQ(answer.ids.size(), said.size());
  EXPECT_EQ(answer.result->reason, FinishReason::stop);
  EXPECT_EQ(answer.result->completion_tokens, said.size());
}

TEST(GenerationBatch, a_length_limit_inside_a_code_point_ends_in_a_replacement) {
  World world({}, testing::saying("\xF0\x9F\x8C\xA7", 2));
  ASSERT_FALSE(world.admit(request(1, "ab", 2)).has_value());
  world.run();
  EXPECT_EQ(world.answers[job(1)].text, "\xEF\xBF\xBD");
}

TEST(GenerationBatch, stop_strings_end_the_text_across_tokens) {
  World world({}, testing::saying("one END two", 2));
  SequenceRequest stopping = request(1, "ab", 100);
  stopping.stop = {"END"};
  ASSERT_FALSE(world.admit(stopping).has_value());
  world.run();
  const Answer& answer = world.answers[job(1)];
  EXPECT_EQ(answer.text, "one ");
  EXPECT_EQ(answer.ids.size(), 7u);
  EXPECT_EQ(answer.result->reason, FinishReason::stop);
}

TEST(GenerationBatch, held_back_text_comes_out_at_the_end) {
  World world({}, testing::saying("one EN", 2));
  SequenceRequest stopping = request(1, "ab", 100);
  stopping.stop = {"END"};
  ASSERT_FALSE(world.admit(stopping).has_value());
  world.run();
  EXPECT_EQ(world.answers[job(1)].text, "one EN");
}

TEST(GenerationBatch, OC_context_overflow_is_refused_with_its_numbers) {
  World world;
  const auto failed = world.admit(request(1, std::string(500, 'x'), 13));
  ASSERT_TRUE(failed.has_value());
  EXPECT_EQ(failed->outcome, Outcome::CONTEXT_OVERFLOW);
  EXPECT_EQ(failed->message, "the prompt has 500 tokens and max_tokens is 13, together 513; the context is 512");
  EXPECT_EQ(failed->field, "max_tokens");
  EXPECT_FALSE(world.admit(request(2, std::string(500, 'x'), 12)).has_value());
}

TEST(GenerationBatch, bad_parameters_are_refused_by_field) {
  World world;
  const auto field_of = [&](auto change) {
    SequenceRequest bad = request(1, "ab", 4);
    change(bad);
    const auto failed = world.admit(bad);
    if (!failed) return std::string("admitted");
    EXPECT_EQ(failed->outcome, Outcome::INVALID_PARAMS);
    return failed->field;
  };
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.prompt.clear(); }), "prompt");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.max_tokens = 0; }), "max_tokens");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.temperature = -1; }), "temperature");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.temperature = std::numeric_limits<float>::quiet_NaN(); }),
            "temperature");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.top_p = 1.5F; }), "top_p");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.min_p = -0.1F; }), "min_p");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.prompt[0] = kVocabulary; }), "prompt.token_ids");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.resume_ids.assign(5, 1); }), "resume_ids");
}

TEST(GenerationBatch, L3_no_more_jobs_than_slots_and_no_attempt_twice) {
  World world;
  for (std::uint64_t number = 0; number < 3; ++number) ASSERT_FALSE(world.admit(request(number, "ab", 9)).has_value());
  EXPECT_EQ(world.admit(request(1, "ab", 9))->outcome, Outcome::DUPLICATE_ATTEMPT);
  ASSERT_FALSE(world.admit(request(3, "ab", 9)).has_value());
  EXPECT_EQ(world.admit(request(4, "ab", 9))->outcome, Outcome::SLOT_BUSY);
  EXPECT_TRUE(world.batch.cancel(job(2), world.events));
  world.absorb();
  EXPECT_EQ(world.answers[job(2)].failure->outcome, Outcome::CANCELED);
  EXPECT_FALSE(world.admit(request(4, "ab", 9)).has_value());
}

TEST(GenerationBatch, missing_pages_refuse_and_come_back_with_a_cancel) {
  World world({.pages_total = 8});
  ASSERT_FALSE(world.admit(request(1, std::string(100, 'a'), 60)).has_value());  // 160 tokens: 5 pages
  EXPECT_EQ(world.batch.pages_used(), 4u);                                       // of them 101 so far
  const auto failed = world.admit(request(2, std::string(130, 'b'), 60));
  ASSERT_TRUE(failed.has_value());
  EXPECT_EQ(failed->outcome, Outcome::NO_PAGES);
  EXPECT_EQ(failed->message, "5 KV pages are needed, 4 of 8 are free");
  world.step();
  world.batch.cancel(job(1), world.events);
  EXPECT_EQ(world.batch.pages_used(), 0u);
  EXPECT_EQ(world.batch.running(), 0u);
  EXPECT_FALSE(world.admit(request(2, std::string(130, 'b'), 60)).has_value());
}

TEST(GenerationBatch, E5_a_running_job_ends_at_its_deadline) {
  World world;
  SequenceRequest late = request(1, "ab", 100);
  late.deadline = Instant{} + Duration::milliseconds(5);
  ASSERT_FALSE(world.admit(late).has_value());
  ASSERT_FALSE(world.admit(request(2, "ab", 20)).has_value());
  for (int i = 0; i < 4; ++i) {
    world.batch.expire(world.now, world.events);
    world.step();
  }
  world.batch.expire(world.now, world.events);
  EXPECT_EQ(world.batch.running(), 2u);
  world.step();
  world.batch.expire(world.now, world.events);
  world.absorb();
  ASSERT_TRUE(world.answers[job(1)].failure.has_value());
  EXPECT_EQ(world.answers[job(1)].failure->outcome, Outcome::DECODE_TIMEOUT);
  world.run();
  EXPECT_EQ(world.answers[job(2)].result->completion_tokens, 20u);
}

TEST(GenerationBatch, a_logit_that_is_not_finite_ends_only_its_own_job) {
  World world({}, [](const std::vector<TokenId>& tokens, std::span<float> logits) {
    for (float& logit : logits) logit = 0;
    logits[70] = 5;
    if (tokens[0] == testing::kFirstByte + 'a' && tokens.size() > 6)
      logits[9] = std::numeric_limits<float>::quiet_NaN();
  });
  ASSERT_FALSE(world.admit(request(1, "aa", 20)).has_value());
  ASSERT_FALSE(world.admit(request(2, "bb", 20)).has_value());
  world.run();
  EXPECT_EQ(world.answers[job(1)].failure->outcome, Outcome::NUMERIC_FAULT);
  EXPECT_EQ(world.answers[job(2)].result->completion_tokens, 20u);
}

TEST(GenerationBatch, counts_what_it_did) {
  World world;
  ASSERT_FALSE(world.admit(request(1, "abc", 10)).has_value());
  world.run();
  EXPECT_EQ(world.batch.counts().tokens_drawn, 10u);
  EXPECT_EQ(world.batch.counts().tokens_fed, 12u);  // the last drawn token is never fed
  const GenerationResult& result = *world.answers[job(1)].result;
  EXPECT_EQ(result.prompt_tokens, 3u);
  EXPECT_EQ(result.completion_tokens, 10u);
  EXPECT_EQ(result.prefill, Duration::milliseconds(1));
  EXPECT_EQ(result.decode, Duration::milliseconds(9));
}

}  // namespace
}  // namespace orch::worker
