#include "worker/core/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "common/base/prng.h"
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
  EXPECT_TRUE(drawn.has_value());
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
  ASSERT_TRUE(drawn.has_value());
  EXPECT_NEAR(drawn->log_probability, std::log(0.5), 1e-5);
}

TEST(Sampler, a_logit_that_is_not_finite_is_a_fault) {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_FALSE(sample(std::vector<float>{1, bad, 2}, {}, 1, 1).has_value());
    EXPECT_FALSE(sample(std::vector<float>{1, bad, 2}, {.temperature = 0}, 1, 1).has_value());
  }
}

}  // namespace
}  // namespace orch::worker
