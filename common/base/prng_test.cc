#include "common/base/prng.h"

#include <gtest/gtest.h>

namespace orch {
namespace {

TEST(Prng, same_seed_same_stream_and_another_seed_another) {
  Prng a(7), b(7), c(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const auto value = a.next();
    EXPECT_EQ(value, b.next());
    differs |= value != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Prng, below_covers_its_range_and_stays_in_it) {
  Prng prng(1);
  int seen[5] = {};
  for (int i = 0; i < 5000; ++i) {
    const auto value = prng.below(5);
    ASSERT_LT(value, 5u);
    ++seen[value];
  }
  for (int count : seen) EXPECT_GT(count, 800);
}

}  // namespace
}  // namespace orch
