// Pages of the batch: shared prefixes, lack of pages, preemption; and what travels with the tokens. Whatever happens to
// a job's pages, its tokens, text and log-probabilities are those of the job alone (OC-NUM-1001).
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "common/base/prng.h"
#include "worker/core/batch_world_fixture.h"

namespace orch::worker {
namespace {

using testing::alone;
using testing::Answer;
using testing::expect_same;
using testing::job;
using testing::kVocabulary;
using testing::of_tenant;
using testing::request;
using testing::rich;
using testing::text_of;
using testing::World;

TEST(Prefixes, OC_ENGINE_1016_full_pages_of_an_equal_prefix_are_not_computed_again) {
  World world;
  const std::string prompt = text_of(100, 1);
  ASSERT_FALSE(world.admit(request(1, prompt, 10, 0.8F)).has_value());
  EXPECT_EQ(world.cached, 0u);
  world.run();
  const std::uint64_t fed = world.batch.counts().tokens_fed;
  ASSERT_FALSE(world.admit(request(2, prompt + "tail", 10, 0.8F)).has_value());
  EXPECT_EQ(world.cached, 96u);
  world.run();
  EXPECT_EQ(world.batch.counts().tokens_fed - fed, 4u + 9u);  // "tail", and all drawn but the last
  expect_same(world.answers[job(2)], alone(request(2, prompt + "tail", 10, 0.8F)));
  EXPECT_EQ(world.answers[job(2)].result->cached_prompt_tokens, 100u) << "of the last page its beginning (1027)";
  EXPECT_EQ(world.batch.counts().cached_prompt_tokens, 100u);
  EXPECT_EQ(world.batch.counts().prompt_tokens, 204u);
}

TEST(Prefixes, OC_ENGINE_1016_a_prompt_that_is_known_whole_computes_its_last_token) {
  World world;
  const std::string prompt = text_of(64, 2);
  for (std::uint64_t number = 1; number <= 2; ++number) {
    ASSERT_FALSE(world.admit(request(number, prompt, 5)).has_value());
    world.run();
  }
  EXPECT_EQ(world.cached, 32u);
  EXPECT_EQ(world.answers[job(1)].ids, world.answers[job(2)].ids);
}

TEST(Prefixes, OC_ENGINE_1016_completions_are_found_by_the_next_turn) {
  World world;
  const SequenceRequest first = request(1, text_of(40, 3), 60);
  ASSERT_FALSE(world.admit(first).has_value());
  world.run();
  SequenceRequest next = first;
  next.id = job(2);
  const std::vector<TokenId> said = world.answers[job(1)].ids;
  next.prompt.insert(next.prompt.end(), said.begin(), said.end());
  ASSERT_FALSE(world.admit(next).has_value());
  EXPECT_EQ(world.cached, 96u);  // of 100; the last token of the completion was never fed
}

TEST(Prefixes, OC_ENGINE_1016_tenants_and_models_share_nothing) {
  const std::string prompt = text_of(100, 4);
  World world;
  ASSERT_FALSE(world.admit(of_tenant(request(1, prompt, 5), "gold")).has_value());
  ASSERT_FALSE(world.admit(of_tenant(request(2, prompt, 5), "iron")).has_value());
  EXPECT_EQ(world.cached, 0u);
  world.run();
  ASSERT_FALSE(world.admit(of_tenant(request(3, prompt, 5), "")).has_value());
  EXPECT_EQ(world.cached, 0u);
  ASSERT_FALSE(world.admit(of_tenant(request(4, prompt, 5), "gold")).has_value());
  EXPECT_EQ(world.cached, 96u);

  const auto key = [&](const PageScope& scope, std::string_view tenant) {
    return PageKeys(scope, tenant).key(0, [](std::uint32_t at) { return at; });
  };
  const PageScope scope{"sha256:1", "X", "", "f16"};
  EXPECT_EQ(key(scope, "a"), key(scope, "a"));
  EXPECT_NE(key(scope, "a"), key(scope, "b"));
  for (const PageScope& other : {PageScope{"sha256:2", "X", "", "f16"}, PageScope{"sha256:1", "D", "", "f16"},
                                 PageScope{"sha256:1", "X", "lora", "f16"}, PageScope{"sha256:1", "X", "", "f32"}}) {
    EXPECT_NE(key(scope, "a"), key(other, "a"));
  }
  EXPECT_NE(key({"b", "X", "", "f16"}, "a"), key({"", "X", "", "f16"}, "ab"));  // where one text ends is told
}

TEST(Prefixes, OC_ENGINE_1016_a_key_stands_for_all_tokens_before_it) {
  PageKeys one({}, "");
  PageKeys two({}, "");
  const auto tokens = [](std::uint32_t first) { return [first](std::uint32_t at) { return at == 0 ? first : at; }; };
  EXPECT_NE(one.key(1, tokens(7)), two.key(1, tokens(8)));  // page 1 itself is equal
  EXPECT_NE(one.key(0, tokens(7)), one.key(1, tokens(7)));
}

TEST(Prefixes, OC_NUM_1001_hits_change_no_byte) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Prng prng(seed);
    World world({.rows_max = 4 + static_cast<std::uint32_t>(prng.below(60)), .pages_total = 40});
    std::vector<SequenceRequest> asked;
    for (std::uint64_t number = 1; number <= 24; ++number) {
      // Few stems of many lengths: prefixes of each other.
      const std::string prompt = text_of(20 + prng.below(120), prng.below(3)) + std::string(prng.below(3), 'z');
      SequenceRequest what = rich(number, prompt, 1 + static_cast<std::uint32_t>(prng.below(40)));
      what.tenant = prng.below(4) == 0 ? "other" : "";
      while (world.admit(what).has_value()) ASSERT_TRUE(world.step());
      asked.push_back(what);
      for (std::uint64_t steps = prng.below(6); steps > 0; --steps) world.step();
    }
    world.run();
    EXPECT_GT(world.batch.counts().cached_prompt_tokens, 0u);
    for (const SequenceRequest& what : asked) expect_same(world.answers[what.id], alone(what));
    EXPECT_EQ(world.batch.pages_used(), 0u);
  }
}

TEST(Prefixes, OC_ENGINE_1016_the_end_of_a_text_is_forgotten_before_its_beginning) {
  World world({.context = 256, .pages_total = 8});
  const std::string prompt = text_of(129, 5);
  ASSERT_FALSE(world.admit(request(1, prompt, 1)).has_value());
  world.run();                                                            // 4 full pages stay behind
  ASSERT_FALSE(world.admit(request(2, text_of(170, 6), 1)).has_value());  // takes 6: the free ones and two of these
  world.run();
  ASSERT_FALSE(world.admit(request(3, prompt, 1)).has_value());
  EXPECT_EQ(world.cached, 64u);
}

TEST(Pages, OC_ENGINE_1018_a_preempted_job_goes_on_with_the_same_bytes) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Prng prng(seed);
    World world({.rows_max = 4 + static_cast<std::uint32_t>(prng.below(40)), .share_prefixes = seed % 2 == 0});
    std::vector<SequenceRequest> asked;
    for (std::uint64_t number = 1; number <= 4; ++number) {
      asked.push_back(rich(number, text_of(10 + prng.below(90), number), 40));
      asked.back().prompt_log_probs = number % 2 == 0 ? std::optional<std::uint32_t>(2) : std::nullopt;
      ASSERT_FALSE(world.admit(asked.back()).has_value());
    }
    std::uint64_t taken = 0;
    while (world.step()) {
      if (prng.below(4) == 0 && world.batch.preempt(job(1 + prng.below(4)))) ++taken;
    }
    EXPECT_GT(taken, 0u);
    EXPECT_EQ(world.batch.counts().preemptions, taken);
    for (const SequenceRequest& what : asked) expect_same(world.answers[what.id], alone(what));
  }
}

TEST(Pages, OC_ENGINE_1017_more_growth_than_pages_ends_every_job_with_its_own_bytes) {
  World world({.context = 256, .pages_total = 8});  // 256 tokens for four jobs of up to 220
  std::vector<SequenceRequest> asked;
  for (std::uint64_t number = 1; number <= 4; ++number) {
    asked.push_back(rich(number, text_of(20, number), 200));
    ASSERT_FALSE(world.admit(asked.back()).has_value());
  }
  std::uint64_t steps = 0;
  while (world.step()) ASSERT_LT(++steps, 5000u);
  EXPECT_GT(world.batch.counts().preemptions, 0u);
  for (const SequenceRequest& what : asked) expect_same(world.answers[what.id], alone(what));
  EXPECT_EQ(world.batch.pages_used(), 0u);
}

TEST(Pages, OC_ENGINE_1017_who_waits_for_pages_comes_before_a_newcomer) {
  World world({.context = 256, .pages_total = 8});
  ASSERT_FALSE(world.admit(request(1, text_of(100, 1), 100)).has_value());
  ASSERT_FALSE(world.admit(request(2, text_of(20, 2), 100)).has_value());
  ASSERT_TRUE(world.batch.preempt(job(1)));
  const auto refused = world.admit(request(3, "ab", 5));
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->outcome, Outcome::NO_PAGES);
  world.step();
  EXPECT_FALSE(world.admit(request(3, "ab", 5)).has_value());
}

TEST(Pages, OC_ENGINE_1017_what_could_never_fit_is_refused_with_the_numbers) {
  World world({.context = 512, .pages_total = 8});
  const auto refused = world.admit(request(1, std::string(200, 'a'), 57));
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->outcome, Outcome::CONTEXT_OVERFLOW);
  EXPECT_EQ(refused->message,
            "the prompt has 200 tokens and max_tokens is 57, together 257; there are KV pages for 256");
}

TEST(Pages, OC_ENGINE_1017_random_traffic_on_few_pages_always_ends) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Prng prng(seed);
    World world({.context = 200, .rows_max = 4 + static_cast<std::uint32_t>(prng.below(30)), .pages_total = 7});
    std::uint64_t number = 0;
    for (int round = 0; round < 400; ++round) {
      if (prng.below(3) == 0) {
        ++number;
        world.admit(request(number, text_of(1 + prng.below(150), prng.below(3)),
                            1 + static_cast<std::uint32_t>(prng.below(50)), 1.0F));
      }
      if (prng.below(20) == 0) world.batch.cancel(job(1 + prng.below(number + 1)), world.events);
      if (prng.below(10) == 0) world.batch.preempt(job(1 + prng.below(number + 1)));
      world.absorb();
      const std::uint32_t running = world.batch.running();
      if (world.step() != (running > 0)) FAIL() << "jobs run and none moves";
    }
    std::uint64_t steps = 0;
    while (world.step()) ASSERT_LT(++steps, 10'000u);
    EXPECT_EQ(world.batch.running(), 0u);
    EXPECT_EQ(world.batch.pages_used(), 0u);
  }
}

TEST(Scores, M2_penalties_and_log_probabilities_go_on_behind_resume_ids) {
  const SequenceRequest whole = rich(5, text_of(50, 9), 40);
  const Answer expected = alone(whole);
  ASSERT_EQ(expected.scores.size(), expected.ids.size());
  for (const std::size_t cut : {1u, 9u, 33u}) {
    World world;
    SequenceRequest rest = whole;
    rest.resume_ids.assign(expected.ids.begin(), expected.ids.begin() + static_cast<std::ptrdiff_t>(cut));
    world.first_index[rest.id] = cut;
    ASSERT_FALSE(world.admit(rest).has_value());
    world.run();
    testing::expect_rest(world.answers[rest.id], expected, cut);
  }
}

TEST(Scores, OC_ENGINE_1019_prompt_tokens_are_scored_from_the_second_on_whatever_the_chunks_and_hits) {
  const std::string prompt = text_of(90, 11);
  SequenceRequest what = request(1, prompt, 3);
  what.prompt_log_probs = 2;
  const Answer expected = alone(what);
  ASSERT_EQ(expected.prompt_scores.size(), 89u);
  for (std::size_t i = 0; i < expected.prompt_scores.size(); ++i) {
    EXPECT_EQ(expected.prompt_scores[i].token.id, what.prompt[i + 1]);
    EXPECT_EQ(expected.prompt_scores[i].top.size(), 2u);
  }
  World world({.rows_max = 7});
  ASSERT_FALSE(world.admit(request(9, prompt, 3)).has_value());  // leaves pages behind
  world.run();
  ASSERT_FALSE(world.admit(what).has_value());
  EXPECT_EQ(world.cached, 0u);  // what is scored must be computed
  world.run();
  expect_same(world.answers[what.id], expected);
}

// Counts what is asked and allows letters only; behind "ab" nothing but the end.
class LettersMask final : public TokenMask {
 public:
  std::span<const std::uint32_t> allowed() override {
    bits_.assign((kVocabulary + 31) / 32, 0);
    const auto allow = [&](std::uint32_t id) { bits_[id / 32] |= 1U << (id % 32); };
    if (taken_ < 12) {
      for (char c = 'a'; c <= 'z'; ++c) allow(testing::kFirstByte + static_cast<unsigned char>(c));
    } else {
      allow(testing::kEndToken);
    }
    return bits_;
  }
  bool accept(std::uint32_t id) override {
    ++taken_;
    return id >= testing::kFirstByte + 'a' && id <= testing::kFirstByte + 'z';
  }
  std::unique_ptr<TokenMask> clone() const override { return std::make_unique<LettersMask>(*this); }

 private:
  std::uint32_t taken_ = 0;
  std::vector<std::uint32_t> bits_;
};

TEST(Mask, OC_NUM_1402_only_allowed_tokens_are_drawn_and_the_state_survives_resume_and_preemption) {
  for (const float temperature : {0.0F, 1.3F}) {
    SequenceRequest what = request(1, text_of(40, 12), 100, temperature);
    what.mask = std::make_shared<LettersMask>();
    const Answer expected = alone(what);
    ASSERT_EQ(expected.ids.size(), 12u);
    for (const char c : expected.text) EXPECT_TRUE(c >= 'a' && c <= 'z') << c;
    EXPECT_EQ(expected.result->reason, FinishReason::stop);

    World world;
    SequenceRequest rest = what;
    rest.resume_ids.assign(expected.ids.begin(), expected.ids.begin() + 5);
    world.first_index[rest.id] = 5;
    ASSERT_FALSE(world.admit(rest).has_value());
    world.step();
    world.step();
    ASSERT_TRUE(world.batch.preempt(rest.id));
    world.run();
    testing::expect_rest(world.answers[rest.id], expected, 5);

    rest.resume_ids.assign(3, testing::kFirstByte + '!');
    const auto refused = World().admit(rest);
    ASSERT_TRUE(refused.has_value());
    EXPECT_EQ(refused->field, "resume_ids");
  }
}

TEST(Limits, ORCH_2006_sampling_is_refused_by_field) {
  World world;
  const auto field_of = [&](auto change) {
    SequenceRequest bad = request(1, "ab", 4);
    change(bad);
    const auto failed = world.admit(bad);
    if (!failed) return std::string("admitted");
    EXPECT_EQ(failed->outcome, Outcome::INVALID_PARAMS);
    return failed->field;
  };
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.repetition_penalty = 0; }), "repetition_penalty");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.repetition_penalty = 11; }), "repetition_penalty");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.frequency_penalty = 2.5F; }), "frequency_penalty");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.presence_penalty = -2.5F; }), "presence_penalty");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.logit_bias = {{kVocabulary, 1}}; }), "logit_bias");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.logit_bias = {{3, 101}}; }), "logit_bias");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.logit_bias = {{3, 1}, {3, 1}}; }), "logit_bias");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.sampling.logit_bias.assign(1025, {3, 1}); }), "logit_bias");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.log_probs = 21; }), "logprobs");
  EXPECT_EQ(field_of([](SequenceRequest& r) { r.prompt_log_probs = 21; }), "prompt_logprobs");
}

}  // namespace
}  // namespace orch::worker
