#include "worker/core/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "common/base/prng.h"
#include "worker/core/numerics.h"
#include "worker/core/philox.h"

namespace orch::worker {
namespace {

// Known answers published with the Random123 library (philox4x32, 10 rounds).
TEST(Philox, gives_the_published_answers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxCounter{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}));
  EXPECT_EQ(philox4x32({0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}, {0xffffffffu, 0xffffffffu}),
            (PhiloxCounter{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}));
  EXPECT_EQ(philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
            (PhiloxCounter{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}));
}

std::uint32_t draw(const std::vector<float>& logits, const SamplerParams& params, std::uint64_t seed,
                   std::uint32_t position) {
  const auto drawn = sample(logits, params, seed, position);
  EXPECT_TRUE(drawn.ok());
  return drawn->id;
}

TEST(Sampler, temperature_zero_takes_the_lowest_of_equal_maxima) {
  EXPECT_EQ(draw({1, 5, 5, 2}, {.temperature = 0}, 1, 1), 1u);
}

TEST(Sampler, is_a_function_of_seed_and_position) {
  Prng prng(1);
  std::vector<float> logits(5000);
  for (float& logit : logits) logit = static_cast<float>(prng.unit() * 12 - 6);
  std::set<std::uint32_t> seen;
  for (std::uint32_t position = 0; position < 50; ++position) {
    const std::uint32_t id = draw(logits, {.temperature = 1.2F}, 42, position);
    EXPECT_EQ(id, draw(logits, {.temperature = 1.2F}, 42, position));
    seen.insert(id);
  }
  EXPECT_GT(seen.size(), 40u);
  const auto drawn_with = [&](std::uint64_t seed) {
    std::vector<std::uint32_t> ids;
    for (std::uint32_t position = 0; position < 8; ++position) ids.push_back(draw(logits, {}, seed, position));
    return ids;
  };
  EXPECT_NE(drawn_with(42), drawn_with(43));
  EXPECT_NE(drawn_with(42), drawn_with(42 + (std::uint64_t{1} << 32)));  // both halves of the seed count
}

TEST(Sampler, frequencies_follow_the_softmax) {
  const std::vector<float> logits = {0, 1, 2, -1};
  std::vector<double> counts(4);
  constexpr int kDraws = 40'000;
  for (std::uint32_t position = 0; position < kDraws; ++position)
    counts[draw(logits, {.temperature = 0.5F}, 9, position)] += 1;
  double total = 0;
  for (const float logit : logits) total += std::exp(2.0 * static_cast<double>(logit));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double expected = std::exp(2.0 * static_cast<double>(logits[i])) / total;
    EXPECT_NEAR(counts[i] / kDraws, expected, 4 * std::sqrt(expected / kDraws) + 1e-4) << i;
  }
}

TEST(Sampler, top_k_top_p_and_min_p_leave_only_the_head) {
  const std::vector<float> logits = {3, 3, 2, 1, 0, -1};
  for (std::uint32_t position = 0; position < 500; ++position) {
    EXPECT_LE(draw(logits, {.top_k = 2}, 5, position), 1u);
    EXPECT_EQ(draw(logits, {.top_k = 1}, 5, position), 0u);
    EXPECT_LE(draw(logits, {.top_p = 0.5F}, 5, position), 1u);
    EXPECT_EQ(draw(logits, {.top_p = 0.0F}, 5, position), 0u);
    EXPECT_LE(draw(logits, {.min_p = 0.2F}, 5, position), 2u);
  }
}

TEST(Sampler, top_k_beyond_the_vocabulary_changes_nothing) {
  Prng prng(3);
  std::vector<float> logits(300);
  for (float& logit : logits) logit = static_cast<float>(prng.unit() * 4);
  for (std::uint32_t position = 0; position < 200; ++position) {
    EXPECT_EQ(draw(logits, {}, 5, position), draw(logits, {.top_k = 300}, 5, position));
    EXPECT_EQ(draw(logits, {}, 5, position), draw(logits, {.top_k = 1000}, 5, position));
  }
}

// top_k just below and above the count takes the comparison sort and the radix sort: one algorithm for every k.
TEST(Sampler, a_large_vocabulary_with_ties_is_ordered_like_a_small_one) {
  Prng prng(8);
  std::vector<float> logits(5000);
  for (float& logit : logits) logit = static_cast<float>(prng.between(-40, 40)) * 0.25F;
  logits[17] = -0.0F;
  logits[18] = 0.0F;
  // top_k = size - 1 drops only the very last candidate, whose weight is far too small to be met here.
  const auto size = static_cast<std::uint32_t>(logits.size());
  for (std::uint32_t position = 0; position < 300; ++position) {
    for (const float top_p : {1.0F, 0.9F, 0.3F}) {
      const SamplerParams radix{.temperature = 0.9F, .top_p = top_p};
      const SamplerParams comparison{.temperature = 0.9F, .top_k = size - 1, .top_p = top_p};
      ASSERT_EQ(draw(logits, radix, 3, position), draw(logits, comparison, 3, position)) << position << " " << top_p;
    }
  }
}

TEST(Sampler, log_probability_is_that_of_the_candidates) {
  const auto drawn = sample(std::vector<float>{1, 1}, {}, 1, 1);
  ASSERT_TRUE(drawn.ok());
  EXPECT_NEAR(drawn->log_probability, std::log(0.5), 1e-5);
}

TEST(Sampler, a_logit_that_is_not_finite_is_a_fault) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_FALSE(sample(std::vector<float>{1, bad, 2}, {}, 1, 1).ok());
    EXPECT_FALSE(sample(std::vector<float>{1, bad, 2}, {.temperature = 0}, 1, 1).ok());
  }
}

// The definition, without any shortcut: every weight that is not exactly 0 is sorted and summed.
Drawn by_definition(const std::vector<float>& logits, const SamplerParams& params, std::uint64_t seed,
                    std::uint32_t position) {
  struct Weighed {
    float logit = 0;
    std::uint32_t id = 0;
  };
  const float factor = static_cast<float>(1.0 / static_cast<double>(params.temperature));
  const float maximum = *std::max_element(logits.begin(), logits.end()) * factor;
  std::vector<Weighed> all;
  for (std::uint32_t id = 0; id < logits.size(); ++id) {
    if (logits[id] * factor - maximum >= -30.0F) all.push_back({logits[id] * factor, id});
  }
  std::sort(all.begin(), all.end(),
            [](const Weighed& a, const Weighed& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; });
  if (params.top_k > 0 && params.top_k < all.size()) all.resize(params.top_k);
  std::vector<float> weights;
  for (const Weighed& each : all) weights.push_back(numerics::exp(each.logit - maximum));
  const auto sum_of = [&](std::size_t count) {
    float sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum = sum + weights[i];
    return sum;
  };
  std::size_t kept = weights.size();
  if (params.top_p < 1.0F) {
    const float wanted = params.top_p * sum_of(kept);
    float sum = 0;
    for (std::size_t i = 0; i < kept; ++i) {
      sum = sum + weights[i];
      if (sum >= wanted) kept = i + 1;
    }
  }
  while (kept > 1 && weights[kept - 1] < params.min_p) --kept;
  const float total = sum_of(kept);
  const PhiloxCounter random = philox4x32({position, params.choice, 0, 0},
                                          {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  const float target = static_cast<float>(random[0] >> 8) * 0x1p-24F * total;
  float sum = 0;
  std::size_t chosen = 0;
  for (; chosen + 1 < kept; ++chosen) {
    sum = sum + weights[chosen];
    if (sum > target) break;
  }
  return {all[chosen].id, (all[chosen].logit - maximum) - numerics::log(total)};
}

TEST(Sampler, OC_NUM_1408_what_is_left_out_changes_no_byte) {
  Prng prng(21);
  Sampler sampler;
  for (int round = 0; round < 400; ++round) {
    std::vector<float> logits(1 + prng.below(round % 40 == 0 ? 20'000 : 2'000));
    const double width = std::exp(prng.unit() * 6);  // from flat rows to peaked ones
    for (float& logit : logits) {
      const double shape = prng.unit() + prng.unit() + prng.unit() - 1.5;
      logit = static_cast<float>(shape * width);
    }
    if (logits.size() > 20) std::fill(logits.begin(), logits.begin() + 9, logits[9]);
    SamplerParams params;
    params.temperature = static_cast<float>(0.05 + prng.unit() * 2);
    if (prng.below(2) == 0) params.top_p = static_cast<float>(0.01 + 0.99 * prng.unit());
    if (prng.below(3) == 0) params.min_p = static_cast<float>(std::exp(-22 * prng.unit()));
    if (prng.below(3) == 0) params.top_k = static_cast<std::uint32_t>(1 + prng.below(logits.size() + 5));
    params.choice = static_cast<std::uint32_t>(prng.below(3));
    for (std::uint32_t position = 0; position < 8; ++position) {
      const auto drawn = sampler.draw(logits, params, {}, {}, 77, position);
      ASSERT_TRUE(drawn.ok());
      const Drawn expected = by_definition(logits, params, 77, position);
      ASSERT_EQ(drawn->id, expected.id) << round;
      ASSERT_EQ(std::bit_cast<std::uint32_t>(drawn->log_probability),
                std::bit_cast<std::uint32_t>(expected.log_probability))
          << round;
    }
  }
}

TokenCounts counts_of(const std::vector<std::uint32_t>& prompt, const std::vector<std::uint32_t>& completion) {
  TokenCounts out;
  out.add_prompt(prompt);
  for (const std::uint32_t id : completion) out.add_completion(id);
  return out;
}

std::uint32_t greedy(const std::vector<float>& logits, SamplerParams params, const TokenCounts& counts,
                     std::span<const std::uint32_t> mask = {}) {
  params.temperature = 0;
  Sampler sampler;
  const auto drawn = sampler.draw(logits, params, counts, mask, 1, 1);
  EXPECT_TRUE(drawn.ok());
  return drawn->id;
}

TEST(Sampler, OC_NUM_1405_penalties_count_what_they_say) {
  const TokenCounts counts = counts_of({0, 0, 4}, {1, 1, 2});
  // Frequency and presence see the completion only, frequency each time, presence once.
  EXPECT_EQ(greedy({10, 9.5F, 9.4F, 8.7F}, {.frequency_penalty = 0.5F}, counts), 0u);
  EXPECT_EQ(greedy({8, 9.5F, 9.4F, 8.7F}, {.frequency_penalty = 0.5F}, counts), 2u);  // 8, 8.5, 8.9, 8.7
  EXPECT_EQ(greedy({8, 9.5F, 9.4F, 8.7F}, {.presence_penalty = 0.75F}, counts), 1u);  // 8, 8.75, 8.65, 8.7
  EXPECT_EQ(greedy({8, 9.5F, 9.4F, 8.7F}, {.presence_penalty = 0.85F}, counts), 3u);  // 8, 8.65, 8.55, 8.7
  EXPECT_EQ(greedy({8, 9.5F, 9.4F, 8.7F}, {.presence_penalty = -1.0F}, counts), 1u);
  // Repetition sees prompt and completion, once each: a positive logit shrinks, a negative one grows in magnitude.
  EXPECT_EQ(greedy({10, 9, 8, 5.1F}, {.repetition_penalty = 2.0F}, counts), 3u);         // 5, 4.5, 4, 5.1
  EXPECT_EQ(greedy({-1, -2, -2, -1.9F, -3}, {.repetition_penalty = 2.0F}, counts), 3u);  // -2, -4, -4, -1.9, -6
  EXPECT_EQ(greedy({10, 9, 8, 5.1F}, {}, counts), 0u);
}

TEST(Sampler, OC_NUM_1406_a_bias_is_added_behind_the_penalties) {
  EXPECT_EQ(greedy({3, 2, 1}, {.logit_bias = {{2, 2.5F}}}, {}), 2u);
  EXPECT_EQ(greedy({3, 2, 1}, {.logit_bias = {{0, -100}}}, {}), 1u);
  const TokenCounts counts = counts_of({0}, {});
  EXPECT_EQ(greedy({3, 2.6F}, {.repetition_penalty = 2.0F, .logit_bias = {{0, 1.2F}}}, counts), 0u);  // 1.5 + 1.2
  EXPECT_EQ(greedy({3, 2.6F}, {.repetition_penalty = 2.0F, .logit_bias = {{0, 1.0F}}}, counts), 1u);  // not (3 + 1) / 2
}

TEST(Sampler, OC_NUM_1402_a_mask_leaves_only_what_it_allows) {
  const std::vector<float> logits = {9, 8, 7, 6, 5};
  const std::vector<std::uint32_t> mask = {0b10100};
  EXPECT_EQ(greedy(logits, {}, {}, mask), 2u);
  Sampler sampler;
  std::set<std::uint32_t> seen;
  for (std::uint32_t position = 0; position < 200; ++position) {
    const auto drawn = sampler.draw(logits, {.temperature = 2.0F}, {}, mask, 4, position);
    ASSERT_TRUE(drawn.ok());
    seen.insert(drawn->id);
  }
  EXPECT_EQ(seen, (std::set<std::uint32_t>{2, 4}));
  const std::vector<std::uint32_t> none = {0};
  const auto nothing = sampler.draw(logits, {}, {}, none, 4, 1);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.error(), SampleFault::nothing_allowed);
  // A fault is a fault wherever it stands.
  const auto fault =
      sampler.draw(std::vector<float>{1, std::numeric_limits<float>::quiet_NaN(), 2}, {}, {}, mask, 4, 1);
  ASSERT_FALSE(fault.ok());
  EXPECT_EQ(fault.error(), SampleFault::not_finite);
}

TEST(Sampler, OC_NUM_1401_another_choice_draws_other_numbers) {
  const std::vector<float> logits(1000, 0.0F);
  int same = 0;
  for (std::uint32_t position = 0; position < 100; ++position) {
    same += draw(logits, {}, 1, position) == draw(logits, {.choice = 1}, 1, position) ? 1 : 0;
  }
  EXPECT_LT(same, 5);
}

}  // namespace
}  // namespace orch::worker
