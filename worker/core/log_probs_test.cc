#include "worker/core/log_probs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/base/prng.h"

namespace orch::worker {
namespace {

std::vector<float> random_logits(std::size_t count, std::uint64_t seed, double width) {
  Prng prng(seed);
  std::vector<float> out(count);
  for (float& logit : out) logit = static_cast<float>((prng.unit() - 0.5) * width);
  return out;
}

TEST(LogProbs, OC_NUM_1407_equal_the_long_double_softmax) {
  for (const std::size_t count : {1U, 31U, 32U, 33U, 49152U}) {
    const std::vector<float> logits = random_logits(count, count, 40);
    long double maximum = static_cast<long double>(logits[0]);
    for (const float logit : logits) maximum = std::max(maximum, static_cast<long double>(logit));
    long double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<long double>(logit) - maximum);
    const LogProbs row(logits);
    double total = 0;
    for (std::uint32_t id = 0; id < count; ++id) {
      const auto exact = static_cast<double>(static_cast<long double>(logits[id]) - maximum - std::log(sum));
      ASSERT_NEAR(row.log_probability(id), exact, 1e-12) << id;
      total += std::exp(row.log_probability(id));
    }
    EXPECT_NEAR(total, 1.0, 1e-10);
  }
}

// Bytes are frozen: the order of sums, exp and log are the contract's.
TEST(LogProbs, OC_NUM_1407_bytes_are_those_of_the_first_version) {
  const std::vector<float> logits = random_logits(1000, 3, 20);
  const LogProbs row(logits);
  std::uint64_t hash = 1469598103934665603ULL;
  for (std::uint32_t id = 0; id < 1000; ++id) {
    hash = (hash ^ std::bit_cast<std::uint64_t>(row.log_probability(id))) * 1099511628211ULL;
  }
  EXPECT_EQ(hash, 6488385970932448993ULL) << "the bytes of log-probabilities have changed";
}

TEST(LogProbs, OC_NUM_1407_the_top_is_ordered_by_logit_then_id) {
  std::vector<float> logits = {1, 3, -2, 3, 0, 3};
  const auto ids = [](const std::vector<ScoredId>& top) {
    std::vector<std::uint32_t> out;
    for (const ScoredId& each : top) out.push_back(each.id);
    return out;
  };
  const LogProbs row(logits);
  EXPECT_EQ(ids(row.top(0)), std::vector<std::uint32_t>());
  EXPECT_EQ(ids(row.top(2)), (std::vector<std::uint32_t>{1, 3}));
  EXPECT_EQ(ids(row.top(4)), (std::vector<std::uint32_t>{1, 3, 5, 0}));
  EXPECT_EQ(ids(row.top(20)), (std::vector<std::uint32_t>{1, 3, 5, 0, 4, 2}));
  EXPECT_EQ(row.top(1)[0].log_probability, row.scored(1).log_probability);
}

TEST(LogProbs, OC_NUM_1407_the_farthest_logits_stay_finite) {
  const std::vector<float> logits = {3.0e38F, -3.0e38F};
  const LogProbs row(logits);
  EXPECT_EQ(row.log_probability(0), 0.0);
  EXPECT_EQ(row.log_probability(1), -static_cast<double>(3.0e38F) - static_cast<double>(3.0e38F));
  EXPECT_FALSE(all_finite(std::vector<float>{1, std::numeric_limits<float>::infinity()}));
  EXPECT_FALSE(all_finite(std::vector<float>{std::numeric_limits<float>::quiet_NaN(), 1}));
  EXPECT_TRUE(all_finite(std::vector<float>{-std::numeric_limits<float>::max(), 0}));
}

}  // namespace
}  // namespace orch::worker
