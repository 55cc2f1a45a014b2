#include "worker/shell/token_outbox.h"

#include <gtest/gtest.h>

namespace orch::worker {
namespace {

TEST(TokenOutbox, coalesces_what_piles_up_into_one_batch_with_the_first_index) {
  TokenOutbox outbox(1024);
  outbox.started({.prompt_tokens = 7, .cached_prompt_tokens = 2});
  EXPECT_TRUE(outbox.tokens({.index = 0, .ids = {11}, .text = "a"}));
  EXPECT_TRUE(outbox.tokens({.index = 1, .ids = {12, 13}, .text = "bc"}));
  outbox.finish(GenerationResult{.completion_tokens = 3});

  auto item = outbox.take();
  ASSERT_TRUE(item && std::holds_alternative<StartedNote>(*item));
  EXPECT_EQ(std::get<StartedNote>(*item).prompt_tokens, 7u);
  item = outbox.take();
  ASSERT_TRUE(item && std::holds_alternative<TokenBatch>(*item));
  EXPECT_EQ(std::get<TokenBatch>(*item).index, 0u);
  EXPECT_EQ(std::get<TokenBatch>(*item).ids, (std::vector<std::uint32_t>{11, 12, 13}));
  EXPECT_EQ(std::get<TokenBatch>(*item).text, "abc");
  item = outbox.take();
  ASSERT_TRUE(item && std::holds_alternative<GenerationResult>(*item));
  EXPECT_FALSE(outbox.take());
}

// A reader must be able to tell the tokens of a batch apart: an attempt that continues this one numbers its events
// alike.
TEST(TokenOutbox, M2_the_texts_of_merged_tokens_stay_apart) {
  TokenOutbox outbox(100);
  EXPECT_TRUE(outbox.tokens({.index = 0, .ids = {11}, .text = "a"}));
  EXPECT_TRUE(outbox.tokens({.index = 1, .ids = {12}, .text = ""}));
  EXPECT_TRUE(outbox.tokens({.index = 2, .ids = {13}, .text = "bcd"}));
  EXPECT_TRUE(outbox.tokens({.index = 3, .ids = {}, .text = "end"}));  // held back until the end: of no id
  const auto batch = std::get<TokenBatch>(*outbox.take());
  EXPECT_EQ(batch.text, "abcdend");
  EXPECT_EQ(batch.text_ends, (std::vector<std::uint32_t>{1, 1, 4}));
}

TEST(TokenOutbox, a_batch_begun_after_a_take_has_its_own_index) {
  TokenOutbox outbox(1024);
  EXPECT_TRUE(outbox.tokens({.index = 0, .ids = {1}, .text = "a"}));
  ASSERT_TRUE(outbox.take());
  EXPECT_TRUE(outbox.tokens({.index = 1, .ids = {2}, .text = "b"}));
  EXPECT_EQ(std::get<TokenBatch>(*outbox.take()).index, 1u);
}

TEST(TokenOutbox, over_the_bound_ends_in_SLOW_CONSUMER_and_keeps_what_waited) {
  TokenOutbox outbox(10);
  EXPECT_TRUE(outbox.tokens({.index = 0, .ids = {1}, .text = "abcdef"}));  // 10 bytes: exactly the bound
  EXPECT_FALSE(outbox.tokens({.index = 1, .ids = {}, .text = "g"}));       // one more
  EXPECT_FALSE(outbox.tokens({.index = 2, .ids = {}, .text = ""}));        // nothing gets in after a gap
  outbox.finish(GenerationResult{});
  EXPECT_EQ(std::get<TokenBatch>(*outbox.take()).text, "abcdef");
  const auto terminal = outbox.take();
  ASSERT_TRUE(terminal && std::holds_alternative<EngineFailure>(*terminal));
  EXPECT_EQ(std::get<EngineFailure>(*terminal).outcome, Outcome::SLOW_CONSUMER);
}

TEST(TokenOutbox, OC_ENGINE_1019_scores_of_the_prompt_go_before_tokens_within_the_bound) {
  const TokenLogProbs scored{{7, -0.5F, "a"}, {}};
  TokenOutbox outbox(3 * scored.bytes());
  outbox.started({.prompt_tokens = 4});
  EXPECT_TRUE(outbox.prompt_scored({{scored}}));
  EXPECT_TRUE(outbox.prompt_scored({{scored, scored}}));
  EXPECT_TRUE(outbox.tokens({.index = 0, .ids = {1}, .text = "b", .log_probs = {scored}}));
  EXPECT_TRUE(std::holds_alternative<StartedNote>(*outbox.take()));
  EXPECT_EQ(std::get<PromptScores>(*outbox.take()).log_probs.size(), 3u);
  EXPECT_EQ(std::get<TokenBatch>(*outbox.take()).log_probs.size(), 1u);
  EXPECT_TRUE(outbox.prompt_scored({{scored, scored, scored}})) << "what was taken is no longer counted";
  EXPECT_FALSE(outbox.prompt_scored({{scored}}));
  outbox.finish(GenerationResult{});
  EXPECT_TRUE(std::holds_alternative<PromptScores>(*outbox.take()));
  EXPECT_EQ(std::get<EngineFailure>(*outbox.take()).outcome, Outcome::SLOW_CONSUMER);
}

TEST(TokenOutbox, has_exactly_one_terminal_and_nothing_after_it) {
  TokenOutbox outbox(1024);
  outbox.finish(EngineFailure{.outcome = Outcome::CANCELED, .message = {}, .field = {}});
  outbox.finish(GenerationResult{});
  EXPECT_TRUE(outbox.tokens({.index = 0, .ids = {1}, .text = "late"}));
  outbox.started({});
  const auto terminal = outbox.take();
  ASSERT_TRUE(terminal && std::holds_alternative<EngineFailure>(*terminal));
  EXPECT_TRUE(outbox.empty());
  EXPECT_FALSE(outbox.take());
}

}  // namespace
}  // namespace orch::worker
