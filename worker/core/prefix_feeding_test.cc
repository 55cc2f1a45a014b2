// Prompts that are fed together: what of them is computed once, who waits for whom, and that nobody's answer shows it.
// The work is counted in rows.
#include <gtest/gtest.h>

#include <utility>

#include "worker/core/batch_world_fixture.h"

namespace orch::worker {
namespace {

using testing::alone;
using testing::Answer;
using testing::expect_same;
using testing::job;
using testing::of_tenant;
using testing::request;
using testing::rich;
using testing::text_of;
using testing::World;

// `batch` admits all of them before its first step.
void admit_all(World& world, const std::vector<SequenceRequest>& all) {
  for (const SequenceRequest& what : all) ASSERT_FALSE(world.admit(what).has_value());
}

// As many steps as `id` takes to its first token.
std::uint32_t steps_to_first_token(World& world, const DispatchId& id) {
  std::uint32_t steps = 0;
  while (world.answers[id].ids.empty()) {
    ++steps;
    if (steps > 100 || !world.step()) return 0;
  }
  return steps;
}

TEST(PrefixFeeding, OC_ENGINE_1016_eight_choices_of_one_prompt_compute_it_once) {
  constexpr std::uint32_t kPrompt = 2000;
  constexpr std::uint32_t kDrawn = 5;
  World world({.slots = 8, .context = 2100, .pages_total = 8 * 66});
  std::vector<SequenceRequest> choices;
  for (std::uint64_t number = 1; number <= 8; ++number) {
    choices.push_back(request(number, text_of(kPrompt, 1), kDrawn, 0.9F));
    choices.back().sampling.choice = static_cast<std::uint32_t>(number);
  }
  admit_all(world, choices);
  world.run();
  constexpr std::uint32_t kFound = kPrompt - 1;  // 62 pages, and of the last one 15 tokens
  EXPECT_EQ(world.batch.counts().tokens_fed, kPrompt + 7 + 8 * (kDrawn - 1));
  EXPECT_EQ(world.batch.counts().cached_prompt_tokens, 7 * kFound);
  for (const SequenceRequest& what : choices) {
    const bool first = what.id == job(1);
    EXPECT_EQ(world.answers[what.id].result->cached_prompt_tokens, first ? 0 : kFound);
    EXPECT_EQ(world.started[what.id], first ? 0 : kFound) << "known before its first row";
  }
  EXPECT_EQ(world.batch.pages_used(), 0u);
}

TEST(PrefixFeeding, OC_ENGINE_1016_prompts_that_begin_alike_share_what_is_alike_however_they_come) {
  const std::string system = text_of(300, 2);
  for (const std::uint32_t steps_between : {0u, 1u, 2u, 5u}) {
    World world({.rows_max = 48});
    std::vector<SequenceRequest> users;
    for (std::uint64_t number = 1; number <= 4; ++number) {
      users.push_back(rich(number, system + text_of(40, 10 + number), 8));
      ASSERT_FALSE(world.admit(users.back()).has_value());
      for (std::uint32_t i = 0; i < steps_between; ++i) world.step();
    }
    world.run();
    EXPECT_EQ(world.batch.counts().cached_prompt_tokens, 3 * 300u) << steps_between;
    EXPECT_EQ(world.batch.counts().tokens_fed, 4 * 340u - 3 * 300u + 4 * 7u) << steps_between;
    for (const SequenceRequest& what : users) expect_same(world.answers[what.id], alone(what));
  }
}

// The follower has filled a part of its page when the whole one appears.
TEST(PrefixFeeding, OC_ENGINE_1016_a_page_that_is_half_filled_gives_way_to_a_full_one) {
  World world({.rows_max = 69});
  const std::string prompt = text_of(100, 3);
  SequenceRequest scored = request(1, prompt, 3);
  scored.prompt_log_probs = 0;
  const SequenceRequest follower = request(2, prompt, 3);
  admit_all(world, {scored, follower});
  // 32 rows a step of the one, 37 of the other, which goes ahead; of its third page it has 10 when it waits.
  world.run();
  EXPECT_EQ(world.answers[job(2)].result->cached_prompt_tokens, 96u - 2 * 37u);
  expect_same(world.answers[job(1)], alone(scored));
  expect_same(world.answers[job(2)], alone(follower));
}

TEST(PrefixFeeding, OC_ENGINE_1016_neighbours_of_other_tenants_share_nothing) {
  World world({.rows_max = 300});
  const std::string prompt = text_of(100, 4);
  admit_all(world, {of_tenant(request(1, prompt, 2), "gold"), of_tenant(request(2, prompt, 2), "iron"),
                    of_tenant(request(3, prompt, 2), "gold")});
  ASSERT_TRUE(world.step());
  EXPECT_EQ(world.backend.rows_of_steps[0], 200u) << "the third waits for the first, the second for nobody";
  world.run();
  EXPECT_EQ(world.answers[job(2)].result->cached_prompt_tokens, 0u);
  EXPECT_EQ(world.answers[job(3)].result->cached_prompt_tokens, 99u);
}

TEST(PrefixFeeding, OC_ENGINE_1016_nothing_is_found_or_waited_for_where_sharing_is_off) {
  World world({.rows_max = 300, .share_prefixes = false});
  admit_all(world, {request(1, text_of(100, 4), 2), request(2, text_of(100, 4), 2)});
  ASSERT_TRUE(world.step());
  EXPECT_EQ(world.backend.rows_of_steps[0], 200u);
  world.run();
  EXPECT_EQ(world.batch.counts().cached_prompt_tokens, 0u);
}

TEST(PrefixFeeding, OC_ENGINE_1026_waiting_costs_a_first_token_one_step_at_most) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Prng prng(seed);
    const std::uint32_t rows = 100 + static_cast<std::uint32_t>(prng.below(300));
    const std::string stem = text_of(33 + prng.below(200), seed);
    const SequenceRequest follower = request(9, stem + text_of(prng.below(100), seed + 1), 2);
    SequenceRequest leader = request(1, stem + text_of(prng.below(100), seed + 2), 2);
    if (prng.below(3) == 0) leader.prompt_log_probs = 1;  // 32 rows a step
    World apart({.rows_max = rows});
    admit_all(apart, {of_tenant(leader, "another"), follower});
    World together({.rows_max = rows});
    admit_all(together, {leader, follower});
    const std::uint32_t waited = steps_to_first_token(together, follower.id);
    ASSERT_GT(waited, 0u);
    EXPECT_LE(waited, steps_to_first_token(apart, follower.id) + 1) << seed;
  }
}

TEST(PrefixFeeding, OC_ENGINE_1026_nobody_waits_for_one_that_is_slower_than_itself) {
  World world({.rows_max = 256});
  SequenceRequest scored = request(1, text_of(200, 5), 2);
  scored.prompt_log_probs = 0;  // 32 rows a step
  admit_all(world, {scored, request(2, text_of(200, 5), 2)});
  ASSERT_TRUE(world.step());
  EXPECT_EQ(world.answers[job(2)].ids.size(), 1u) << "its prompt fits beside the other's 32 rows";
}

// What was waited for is gone before it was found, and another one computes it again: no reason to wait once more.
TEST(PrefixFeeding, OC_ENGINE_1026_who_waited_in_vain_does_not_wait_again) {
  World world({.slots = 5, .context = 400, .rows_max = 512, .pages_total = 19});
  const std::string prompt = text_of(100, 6);
  ASSERT_FALSE(world.admit(request(1, text_of(100, 7), 20)).has_value());
  world.step();
  admit_all(world, {request(2, prompt, 20), request(3, prompt, 20), request(4, prompt, 20)});
  world.step();
  EXPECT_EQ(world.backend.rows_of_steps[1], 101u) << "the others wait for the second";
  ASSERT_TRUE(world.batch.cancel(job(2), world.events));
  ASSERT_TRUE(world.batch.cancel(job(1), world.events));
  ASSERT_FALSE(world.admit(request(5, text_of(287, 8), 20)).has_value());  // takes what is free and all of the second's
  world.step();
  EXPECT_EQ(world.backend.rows_of_steps[2], 100u + 100u + 287u);
  world.run();
  EXPECT_EQ(world.answers[job(4)].result->cached_prompt_tokens, 0u);
}

TEST(PrefixFeeding, OC_ENGINE_1027_what_is_alike_within_a_page_is_copied_not_computed) {
  for (const std::uint32_t stem : {1u, 20u, 31u, 32u, 45u}) {
    World world;
    const std::string begins = text_of(stem, 9);
    const SequenceRequest first = rich(1, begins + "1 one", 6);
    const SequenceRequest second = rich(2, begins + "2 two and more", 6);
    ASSERT_FALSE(world.admit(first).has_value());
    world.step();
    world.step();  // it goes on writing behind what is copied
    ASSERT_FALSE(world.admit(second).has_value());
    world.run();
    EXPECT_EQ(world.answers[job(2)].result->cached_prompt_tokens, stem);
    EXPECT_EQ(world.batch.counts().tokens_fed, stem + 5 + 14 + 2 * 5u);
    EXPECT_EQ(world.batch.counts().cached_prompt_tokens, stem);
    EXPECT_EQ(world.batch.pages_used(), 0u);
    expect_same(world.answers[job(1)], alone(first));
    expect_same(world.answers[job(2)], alone(second));
  }
}

TEST(PrefixFeeding, OC_ENGINE_1027_nothing_is_copied_for_another_tenant_nor_where_sharing_is_off) {
  for (const bool share : {true, false}) {
    World world({.share_prefixes = share});
    ASSERT_FALSE(world.admit(of_tenant(request(1, text_of(20, 9), 2), "gold")).has_value());
    world.run();
    ASSERT_FALSE(world.admit(of_tenant(request(2, text_of(20, 9), 2), share ? "iron" : "gold")).has_value());
    world.run();
    EXPECT_EQ(world.answers[job(2)].result->cached_prompt_tokens, 0u);
  }
}

// A conversation goes on: what was said is there, up to the last token, which was never fed.
TEST(PrefixFeeding, OC_ENGINE_1027_the_next_turn_finds_the_whole_last_one) {
  World world;
  const SequenceRequest first = request(1, text_of(40, 3), 60);
  ASSERT_FALSE(world.admit(first).has_value());
  world.run();
  SequenceRequest next = request(2, "", 4);
  next.prompt = first.prompt;
  const std::vector<TokenId> said = world.answers[job(1)].ids;
  next.prompt.insert(next.prompt.end(), said.begin(), said.end());
  next.prompt.insert(next.prompt.end(), {70, 71, 72});
  ASSERT_FALSE(world.admit(next).has_value());
  world.run();
  EXPECT_EQ(world.answers[job(2)].result->cached_prompt_tokens, 99u);
  expect_same(world.answers[job(2)], alone(next));
}

TEST(PrefixFeeding, OC_NUM_1001_prompts_fed_together_change_no_byte_and_count_what_they_computed) {
  int told = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Prng prng(seed);
    World world({.slots = 8,
                 .rows_max = 8 + static_cast<std::uint32_t>(prng.below(200)),
                 .pages_total = 30 + static_cast<std::uint32_t>(prng.below(60))});
    std::vector<SequenceRequest> asked;
    std::uint64_t taken = 0;
    std::uint64_t resumed = 0;
    for (std::uint64_t number = 1; number <= 10; ++number) {
      SequenceRequest what = rich(number, text_of(60 + prng.below(120), prng.below(2)), 1);
      what.tenant = prng.below(4) == 0 ? "other" : "";
      switch (prng.below(5)) {
        case 0:
          what.prompt_log_probs = 1;
          break;
        case 1:
          what.pooling = static_cast<Pooling>(prng.below(3));
          break;
        case 2:
          what.max_tokens = 20;
          what.resume_ids.assign(1 + prng.below(9), 40);
          world.first_index[what.id] = what.resume_ids.size();
          resumed += what.resume_ids.size();
          break;
        default:
          what.max_tokens = 1 + static_cast<std::uint32_t>(prng.below(20));
      }
      while (world.admit(what).has_value()) ASSERT_TRUE(world.step());
      asked.push_back(what);
      if (prng.below(3) == 0) world.step();
      if (seed % 2 == 0 && prng.below(3) == 0 && world.batch.preempt(job(1 + prng.below(number)))) ++taken;
    }
    world.run();
    std::uint64_t computed = 0;
    for (const SequenceRequest& what : asked) {
      const Answer& got = world.answers[what.id];
      World lonely;
      lonely.first_index = world.first_index;
      ASSERT_FALSE(lonely.admit(what).has_value());
      lonely.run();
      expect_same(got, lonely.answers[what.id]);
      const std::uint32_t cached = got.embedded ? got.embedded->cached_prompt_tokens : got.result->cached_prompt_tokens;
      EXPECT_LE(cached, what.prompt.size() - (what.resume_ids.empty() ? 1 : 0));
      EXPECT_LE(world.started[what.id], cached);
      computed += lonely.batch.counts().tokens_fed - cached;
    }
    // What is preempted is computed again; resume ids that are found count in no usage.
    if (taken == 0 && world.batch.counts().preemptions == 0) {
      ++told;
      EXPECT_LE(world.batch.counts().tokens_fed, computed) << seed;
      EXPECT_GE(world.batch.counts().tokens_fed + resumed, computed) << seed;
    }
    EXPECT_EQ(world.batch.pages_used(), 0u);
  }
  EXPECT_GT(told, 5) << "seeds whose rows can be told from their usage";
}

}  // namespace
}  // namespace orch::worker
