// Drafts from the sequence itself: found, bounded, and without any influence on what is drawn.
#include "worker/core/prompt_lookup.h"

#include <gtest/gtest.h>

#include "common/base/prng.h"
#include "worker/core/batch_world_fixture.h"

namespace orch::worker {
namespace {

using testing::Answer;
using testing::job;
using testing::request;
using testing::World;
using Ids = std::vector<std::uint32_t>;

TEST(PromptLookup, OC_ENGINE_1023_what_followed_the_end_before_is_drafted) {
  EXPECT_EQ(looked_up(Ids{1, 2, 3, 4, 5, 9, 1, 2, 3}, 2), (Ids{4, 5}));
  EXPECT_EQ(looked_up(Ids{1, 2, 3, 4, 8, 2, 3, 5, 1, 2, 3}, 1), (Ids{4})) << "the longest end wins";
  EXPECT_EQ(looked_up(Ids{2, 3, 4, 2, 3, 5, 2, 3}, 1), (Ids{5})) << "the latest place among equals";
  EXPECT_EQ(looked_up(Ids{1, 2, 1, 2}, 5), (Ids{1, 2, 1, 2, 1})) << "a loop goes on";
  EXPECT_EQ(looked_up(Ids{7, 7, 7}, 3), (Ids{7, 7, 7}));
}

TEST(PromptLookup, OC_ENGINE_1023_an_end_that_stands_nowhere_else_gives_no_draft) {
  EXPECT_TRUE(looked_up(Ids{}, 4).empty());
  EXPECT_TRUE(looked_up(Ids{1}, 4).empty());
  EXPECT_TRUE(looked_up(Ids{1, 2, 3, 4}, 4).empty());
  EXPECT_TRUE(looked_up(Ids{3, 1, 2, 3}, 4).empty()) << "one token alone is no end";
  EXPECT_TRUE(looked_up(Ids{1, 2, 1, 2}, 0).empty());
}

TEST(DraftBudget, OC_ENGINE_1023_rejected_drafts_are_bounded_whatever_happens) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Prng prng(seed);
    DraftBudget budget;
    std::uint64_t drawn = 0;
    std::uint64_t accepted = 0;
    std::uint64_t rejected = 0;
    const std::uint64_t luck = prng.below(100);
    for (int step = 0; step < 400; ++step) {
      const auto drafted = static_cast<std::uint32_t>(prng.below(budget.allowed() + 1));
      std::uint32_t good = 0;
      while (good < drafted && prng.below(100) < luck) ++good;
      budget.settle(drafted, good);
      drawn += good + 1;
      accepted += good;
      rejected += drafted - good;
      ASSERT_LE(rejected, 4 + 2 * accepted + drawn / 16) << "seed " << seed;
      ASSERT_LE(budget.allowed(), 16u);
    }
  }
}

TEST(DraftBudget, OC_ENGINE_1023_a_sequence_without_luck_stops_drafting_and_tries_again_later) {
  DraftBudget budget;
  budget.settle(4, 0);
  EXPECT_EQ(budget.allowed(), 0u);
  for (int step = 0; step < 15; ++step) budget.settle(0, 0);
  EXPECT_EQ(budget.allowed(), 1u);
  budget.settle(1, 1);
  budget.settle(3, 3);
  EXPECT_GE(budget.allowed(), 8u);
}

// What is drawn without a draft earns the next one: 16 tokens behind four bad ones.
TEST(Speculation, OC_ENGINE_1023_a_sequence_whose_first_drafts_fail_drafts_again) {
  const std::string prompt = "abcdefghij__ab";
  std::string text = "cZ";
  while (text.size() < 152) text += "tock ";
  World world({.draft_tokens_max = 8}, testing::saying(text, prompt.size()));
  ASSERT_FALSE(world.admit(request(1, prompt, 200)).has_value());
  world.step();
  world.step();
  ASSERT_EQ(world.batch.counts().tokens_drafted, 4u) << "\"defg\" behind \"abc\", as in the prompt";
  ASSERT_EQ(world.batch.counts().drafts_accepted, 0u);
  world.run();
  EXPECT_EQ(world.answers[job(1)].text, text);
  const BatchCounts& counts = world.batch.counts();
  EXPECT_GT(counts.drafts_accepted, 50u);
  EXPECT_LE(counts.tokens_drafted - counts.drafts_accepted, 4 + 2 * counts.drafts_accepted + counts.tokens_drawn / 16);
}

// Says `word` again and again, but now and then, as the tokens decide, something else.
testing::RememberingBackend::Script stuttering(std::string word) {
  return [word = std::move(word)](const std::vector<TokenId>& tokens, std::span<float> logits) {
    std::uint64_t state = 7;
    for (const TokenId token : tokens) state = (state ^ token) * 1099511628211ULL;
    for (float& logit : logits) logit = 0;
    const bool other = (state >> 32) % 23 == 0;
    const std::size_t at = tokens.size() % word.size();
    logits[testing::kFirstByte + static_cast<unsigned char>(other ? 'X' : word[at])] = 9;
    logits[testing::kFirstByte + static_cast<unsigned char>('y')] = 6;
  };
}

SequenceRequest repetitive(std::uint64_t number, float temperature) {
  SequenceRequest out = request(number, "tick tock tick tock tick to", 150, temperature);
  out.log_probs = 2;
  if (number % 2 == 0) {
    out.sampling.frequency_penalty = 0.1F;
    out.sampling.repetition_penalty = 1.05F;
  }
  return out;
}

TEST(Speculation, OC_ENGINE_1023_the_same_bytes_with_and_without_in_fewer_steps) {
  for (const float temperature : {0.0F, 0.7F, 1.3F}) {
    for (std::uint64_t number = 1; number <= 6; ++number) {
      World plain({}, stuttering("tick tock "));
      ASSERT_FALSE(plain.admit(repetitive(number, temperature)).has_value());
      plain.run();
      const Answer& expected = plain.answers[job(number)];
      World world({.draft_tokens_max = 8}, stuttering("tick tock "));
      ASSERT_FALSE(world.admit(repetitive(number, temperature)).has_value());
      world.run();
      const Answer& got = world.answers[job(number)];
      EXPECT_EQ(got.ids, expected.ids);
      EXPECT_EQ(got.text, expected.text);
      EXPECT_EQ(got.scores, expected.scores);
      ASSERT_TRUE(got.result.has_value());
      EXPECT_EQ(got.result->reason, expected.result->reason);
      EXPECT_EQ(got.result->completion_tokens, expected.result->completion_tokens);
      const BatchCounts& counts = world.batch.counts();
      EXPECT_EQ(counts.tokens_drawn, plain.batch.counts().tokens_drawn);
      EXPECT_LE(counts.tokens_drafted - counts.drafts_accepted,
                4 + 2 * counts.drafts_accepted + counts.tokens_drawn / 16);
      EXPECT_EQ(world.backend.rows_of_steps.size() + counts.drafts_accepted, plain.backend.rows_of_steps.size());
      if (temperature == 0) EXPECT_LT(world.backend.rows_of_steps.size() * 3, plain.backend.rows_of_steps.size() * 2);
    }
  }
}

// A draft is no reason to write, share or keep a page, and it ends nobody's wait.
TEST(Speculation, OC_ENGINE_1023_pages_preemption_and_resumption_are_as_without) {
  const SequenceRequest what = repetitive(1, 0.7F);
  World plain({}, stuttering("tick tock "));
  ASSERT_FALSE(plain.admit(what).has_value());
  plain.run();
  const Answer expected = plain.answers[job(1)];
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Prng prng(seed);
    World world({.pages_total = static_cast<std::uint32_t>(7 + prng.below(4)), .draft_tokens_max = 8},
                stuttering("tick tock "));
    SequenceRequest job_of = what;
    const auto taken = static_cast<std::ptrdiff_t>(prng.below(100));
    job_of.resume_ids.assign(expected.ids.begin(), expected.ids.begin() + taken);
    world.first_index[job(1)] = static_cast<std::size_t>(taken);
    ASSERT_FALSE(world.admit(job_of).has_value());
    bool more = true;
    for (std::uint64_t number = 10; more; ++number) {
      if (prng.below(12) == 0) world.admit(request(number, "tick tock tick", 20));
      if (prng.below(10) == 0) world.batch.preempt(job(1));
      more = world.step() || world.batch.running() > 0;
    }
    const Answer& got = world.answers[job(1)];
    ASSERT_TRUE(got.result.has_value());
    EXPECT_EQ(got.ids, Ids(expected.ids.begin() + taken, expected.ids.end())) << "seed " << seed;
    EXPECT_EQ(world.batch.pages_used(), 0u);
  }
}

TEST(Speculation, OC_ENGINE_1023_a_full_batch_and_a_prompt_that_is_fed_leave_no_room_for_drafts) {
  World world({.draft_tokens_max = 8}, stuttering("tick tock "));
  for (std::uint64_t number = 1; number <= 3; ++number) {
    ASSERT_FALSE(world.admit(repetitive(number, 0)).has_value());
  }
  for (int i = 0; i < 40; ++i) world.step();
  EXPECT_EQ(world.batch.counts().tokens_drafted, 0u) << "three decode";
  std::vector<BatchEvent> ended;
  world.batch.cancel(job(3), ended);
  world.step();
  EXPECT_GT(world.batch.counts().tokens_drafted, 0u);
  const std::uint64_t before = world.batch.counts().tokens_drafted;
  ASSERT_FALSE(world.admit(request(4, std::string(300, 'a'), 2)).has_value());
  world.step();
  EXPECT_EQ(world.batch.counts().tokens_drafted, before);
}

TEST(Speculation, OC_ENGINE_1023_a_stop_string_or_the_last_token_ends_a_draft) {
  for (const std::uint32_t tokens : {1u, 2u, 7u, 40u}) {
    World world({.draft_tokens_max = 8}, testing::saying(std::string(200, 'a'), 8));
    SequenceRequest what = request(1, "aaaaaaaa", tokens);
    ASSERT_FALSE(world.admit(what).has_value());
    world.run();
    EXPECT_EQ(world.answers[job(1)].text, std::string(tokens, 'a'));
    EXPECT_EQ(world.answers[job(1)].result->completion_tokens, tokens);
  }
  World world({.draft_tokens_max = 8}, testing::saying(std::string(30, 'a') + "b" + std::string(30, 'a'), 8));
  SequenceRequest what = request(1, "aaaaaaaa", 100);
  what.stop = {"ba"};
  ASSERT_FALSE(world.admit(what).has_value());
  world.run();
  EXPECT_EQ(world.answers[job(1)].text, std::string(30, 'a'));
  EXPECT_EQ(world.answers[job(1)].result->reason, FinishReason::stop);
}

}  // namespace
}  // namespace orch::worker
