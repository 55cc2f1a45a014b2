// The prompts of a request for scores: what does not fit is refused before more of it is made.
#include "worker/core/score_job.h"

#include <gtest/gtest.h>

namespace orch::worker {
namespace {

struct Prompts {
  Result<std::vector<std::vector<TokenId>>, EngineFailure> of(const ScoreRequest& request) {
    const ScoreBounds bounds{512, [this](std::uint64_t bytes) { return token_bytes == 0 ? 0 : bytes / token_bytes; }};
    return make_prompts(request, bounds, [this](const std::string& text) {
      ++encoded;
      return std::vector<TokenId>(text.begin(), text.end());
    });
  }
  std::uint64_t token_bytes = 0;  // of the longest one; 0: nothing is known
  int encoded = 0;
};

ScoreRequest texts(std::size_t query_bytes, std::size_t items) {
  ScoreRequest out;
  out.query_text.assign(query_bytes, 'q');
  out.item_texts.assign(items, "i");
  return out;
}

ScoreRequest ids(std::size_t query, std::size_t item, std::size_t items) {
  ScoreRequest out;
  out.query_ids.assign(query, 7);
  out.item_ids.assign(items, std::vector<TokenId>(item, 8));
  return out;
}

TEST(ScorePrompts, OC_ENGINE_1021_query_and_item_in_the_order_asked_for) {
  Prompts prompts;
  ScoreRequest request = texts(2, 1);
  EXPECT_EQ(*prompts.of(request), (std::vector<std::vector<TokenId>>{{'q', 'q', 'i'}}));
  request.item_first = true;
  EXPECT_EQ(*prompts.of(request), (std::vector<std::vector<TokenId>>{{'i', 'q', 'q'}}));
  ScoreRequest by_id = ids(2, 1, 1);
  EXPECT_EQ(*prompts.of(by_id), (std::vector<std::vector<TokenId>>{{7, 7, 8}}));
  by_id.item_first = true;
  EXPECT_EQ(*prompts.of(by_id), (std::vector<std::vector<TokenId>>{{8, 7, 7}}));
  EXPECT_EQ(prompts.of(texts(510, 1))->at(0).size(), 511u) << "one token of the context is the label's";
}

TEST(ScorePrompts, OC_ENGINE_1021_the_first_prompt_that_does_not_fit_refuses_the_request) {
  Prompts counted;
  const auto long_query = counted.of(texts(511, 1024));
  ASSERT_FALSE(long_query.ok());
  EXPECT_EQ(long_query.error().outcome, Outcome::CONTEXT_OVERFLOW);
  EXPECT_EQ(long_query.error().field, "items");
  EXPECT_EQ(long_query.error().message.rfind("prompt_too_long: item 0 ", 0), 0u) << long_query.error().message;
  EXPECT_EQ(counted.encoded, 1);
  ScoreRequest long_item = texts(500, 1024);
  long_item.item_texts[3].assign(12, 'i');
  EXPECT_FALSE(counted.of(long_item).ok());
  EXPECT_EQ(counted.encoded, 1 + 4);
  Prompts bounded{.token_bytes = 8};
  EXPECT_FALSE(bounded.of(texts(4 << 20, 1024)).ok());
  EXPECT_EQ(bounded.encoded, 0) << "its bytes alone say so";
  EXPECT_EQ(bounded.of(ids(500, 12, 2)).error().outcome, Outcome::CONTEXT_OVERFLOW);
  EXPECT_TRUE(bounded.of(ids(500, 11, 2)).ok());
}

TEST(ScorePrompts, OC_ENGINE_1021_all_prompts_together_are_bounded) {
  const auto made = [](const ScoreRequest& request, int* encoded = nullptr) {
    int count = 0;
    const ScoreBounds wide{1 << 21, [](std::uint64_t) { return std::uint64_t{0}; }};
    const auto out = make_prompts(request, wide, [&count](const std::string& text) {
      ++count;
      return std::vector<TokenId>(text.size(), 1);
    });
    if (encoded != nullptr) *encoded = count;
    if (!out.ok()) EXPECT_EQ(out.error().message.rfind("too_many_tokens: ", 0), 0u) << out.error().message;
    return out.ok();
  };
  constexpr std::size_t kShare = kScoreTokensMax / 4;
  EXPECT_TRUE(made(ids(kShare - 9, 9, 4)));
  EXPECT_FALSE(made(ids(kShare - 9, 10, 4)));
  int encoded = 0;
  EXPECT_TRUE(made(texts(kShare - 1, 4), &encoded));
  EXPECT_FALSE(made(texts(kShare - 1, 1024), &encoded));
  EXPECT_EQ(encoded, 5);
}

// What all prompts begin with, but never a prompt's last token.
TEST(ScoreJob, OC_ENGINE_1021_the_query_is_shared_when_every_item_behind_the_first_found_all_of_it) {
  const auto shared = [](std::size_t query, std::vector<std::size_t> items, const std::vector<std::uint32_t>& found) {
    std::vector<std::vector<TokenId>> prompts;
    for (std::size_t i = 0; i < items.size(); ++i) {
      prompts.emplace_back(query, 7);
      prompts.back().insert(prompts.back().end(), items[i], static_cast<TokenId>(10 + i));
    }
    ScoreJob job(ids(query, 1, items.size()), prompts, Instant::never());
    for (std::size_t i = 0; i < items.size(); ++i) job.began();
    for (std::size_t i = 0; i < items.size(); ++i) job.ended(i, {-1.0}, found[i]);
    EXPECT_TRUE(job.complete());
    return job.result().query_shared;
  };
  EXPECT_TRUE(shared(20, {3, 3, 3}, {0, 20, 20}));
  EXPECT_FALSE(shared(20, {3, 3, 3}, {0, 20, 19}));
  EXPECT_FALSE(shared(40, {3, 3}, {0, 32}));
  EXPECT_TRUE(shared(20, {3, 0}, {0, 19})) << "an empty item: its last token is the query's";
  EXPECT_TRUE(shared(20, {3}, {0})) << "computed once, for there is one item";
  ScoreJob apart(ids(1, 1, 2), {{1, 2}, {3, 4}}, Instant::never());
  for (int i = 0; i < 2; ++i) apart.began();
  for (std::size_t i = 0; i < 2; ++i) apart.ended(i, {-1.0}, 0);
  EXPECT_FALSE(apart.result().query_shared) << "as tokens they have nothing in common";
}

}  // namespace
}  // namespace orch::worker
