// The class-X functions against the host's double-precision library: maximum ULP each, exact points, exhaustive f16.
#include "worker/core/numerics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/base/prng.h"

namespace orch::worker::numerics {
namespace {

// Distance of `got` from `exact` in units of the last place of float(exact).
double ulps(float got, double exact) {
  const float rounded = static_cast<float>(exact);
  const double unit = static_cast<double>(std::nextafterf(std::fabs(rounded), std::numeric_limits<float>::infinity())) -
                      static_cast<double>(std::fabs(rounded));
  return std::fabs(static_cast<double>(got) - exact) / unit;
}

template <typename F, typename G>
double worst(std::uint32_t from_bits, std::uint32_t to_bits, std::uint32_t step, F ours, G exact) {
  double most = 0;
  for (std::uint64_t bits = from_bits; bits <= to_bits; bits += step) {
    const float x = float_of(static_cast<std::uint32_t>(bits));
    most = std::max(most, ulps(ours(x), exact(static_cast<double>(x))));
  }
  return most;
}

TEST(Numerics, OC_NUM_1102_rcp_is_within_1_5_ulp) {
  EXPECT_LE(worst(bits_of(1.0F), bits_of(2.0F), 7, rcp, [](double x) { return 1.0 / x; }), 1.5);
  EXPECT_LE(worst(bits_of(0x1p-120F), bits_of(0x1p120F), 9973, rcp, [](double x) { return 1.0 / x; }), 1.5);
  EXPECT_EQ(rcp(1.0F), 1.0F);
  EXPECT_EQ(rcp(-4.0F), -0.25F);
}

TEST(Numerics, OC_NUM_1102_rsqrt_is_within_2_ulp) {
  EXPECT_LE(worst(bits_of(1.0F), bits_of(4.0F), 13, rsqrt, [](double x) { return 1.0 / std::sqrt(x); }), 2.0);
  EXPECT_LE(worst(bits_of(1e-12F), bits_of(1e20F), 9973, rsqrt, [](double x) { return 1.0 / std::sqrt(x); }), 2.0);
}

TEST(Numerics, OC_NUM_1102_exp_is_within_2_ulp_and_cut_at_minus_30) {
  EXPECT_LE(worst(bits_of(-1e-6F), bits_of(-30.0F), 101, exp, [](double x) { return std::exp(x); }), 2.0);
  EXPECT_LE(worst(bits_of(1e-6F), bits_of(88.0F), 101, exp, [](double x) { return std::exp(x); }), 2.0);
  EXPECT_EQ(exp(0.0F), 1.0F);
  EXPECT_EQ(exp(-0.0F), 1.0F);
  EXPECT_GT(exp(-30.0F), 0.0F);
  EXPECT_EQ(bits_of(exp(std::nextafterf(-30.0F, -31.0F))), 0U);
  EXPECT_EQ(bits_of(exp(-std::numeric_limits<float>::infinity())), 0U);
  EXPECT_TRUE(std::isnan(exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Numerics, OC_NUM_1102_log_is_within_3_ulp_or_1e_7) {
  for (std::uint32_t bits = bits_of(0x1p-40F); bits < bits_of(0x1p40F); bits += 9973) {
    const float x = float_of(bits);
    const double exact = std::log(static_cast<double>(x));
    EXPECT_LE(std::fabs(static_cast<double>(log(x)) - exact), std::max(1e-7, std::fabs(exact) * 3 * 0x1p-23)) << x;
  }
}

// Left of 0 the exponential magnifies the rounding of its argument: |2u| reaches 17 at -5.
TEST(Numerics, OC_NUM_1102_gelu_is_within_8_ulp_right_of_0_and_64_left_of_it) {
  const auto exact = [](double x) {
    return x / (1.0 + std::exp(-2.0 * std::sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
  };
  EXPECT_LE(worst(bits_of(1e-6F), bits_of(40.0F), 997, gelu, exact), 8.0);
  EXPECT_LE(worst(bits_of(-1e-6F), bits_of(-5.0F), 997, gelu, exact), 64.0);
  EXPECT_EQ(gelu(0.0F), 0.0F);
  EXPECT_EQ(gelu(1e30F), 1e30F);
  EXPECT_EQ(bits_of(gelu_mul(-1e30F, 1.0F)), 0U);
  EXPECT_TRUE(std::isnan(gelu(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Numerics, OC_NUM_1102_sigmoid_and_silu_are_within_6_ulp) {
  const auto exact = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  EXPECT_LE(worst(bits_of(1e-6F), bits_of(80.0F), 997, sigmoid, exact), 6.0);
  EXPECT_LE(worst(bits_of(-1e-6F), bits_of(-29.0F), 997, sigmoid, exact), 6.0);
  EXPECT_LE(worst(bits_of(-1e-6F), bits_of(-29.0F), 997, silu, [&](double x) { return x * exact(x); }), 6.0);
}

TEST(Numerics, OC_NUM_1304_sincos64_is_within_2_ulp_of_double) {
  Prng prng(9);
  double most = 0;
  for (int i = 0; i < 300'000; ++i) {
    const double x = (prng.unit() - 0.5) * (i % 2 == 0 ? 20.0 : 2.0 * 1'048'576.0);
    const SinCos got = sincos64(x);
    // Absolute error in units of 2^-53: near a zero of one function relative error has no meaning for a rotation.
    most = std::max(most, std::fabs(got.sin - std::sin(x)) * 0x1p53);
    most = std::max(most, std::fabs(got.cos - std::cos(x)) * 0x1p53);
  }
  EXPECT_LE(most, 2.0);
  EXPECT_EQ(sincos64(0.0).cos, 1.0);
  EXPECT_EQ(sincos64(0.0).sin, 0.0);
}

TEST(Numerics, OC_NUM_1304_exp64_and_log64_are_within_3_ulp) {
  Prng prng(10);
  for (int i = 0; i < 100'000; ++i) {
    const double x = -prng.unit() * 40.0;
    EXPECT_LE(std::fabs(exp64(x) / std::exp(x) - 1.0), 3 * 0x1p-52) << x;
    const double y = 1.0 + prng.unit() * 1e6;
    EXPECT_LE(std::fabs(log64(y) - std::log(y)), 3 * 0x1p-52 * std::max(1.0, std::log(y))) << y;
  }
}

TEST(Numerics, OC_NUM_1305_f16_round_trips_all_65536) {
  for (std::uint32_t h = 0; h < 65'536; ++h) {
    const float wide = f16_to_f32(static_cast<std::uint16_t>(h));
    const std::uint32_t magnitude = h & 0x7FFFU;
    if (magnitude > 0x7C00U) {
      EXPECT_TRUE(std::isnan(wide));
      continue;
    }
    const int exponent = static_cast<int>((h >> 10) & 0x1FU);
    const double mantissa = static_cast<double>(h & 0x3FFU);
    double exact = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024.0 + mantissa, exponent - 25);
    if (magnitude == 0x7C00U) exact = std::numeric_limits<double>::infinity();
    EXPECT_EQ(static_cast<double>(wide), (h & 0x8000U) != 0 ? -exact : exact) << h;
    const std::uint32_t back = magnitude == 0x7C00U ? (h & 0x8000U) | 0x7BFFU : h;
    EXPECT_EQ(f32_to_f16(wide), back) << h;
  }
}

// Between every two neighbours: below, at and above the tie.
TEST(Numerics, OC_NUM_1305_f32_to_f16_rounds_to_nearest_even) {
  for (std::uint32_t h = 0; h < 0x7BFFU; ++h) {
    const float low = f16_to_f32(static_cast<std::uint16_t>(h));
    const float high = f16_to_f32(static_cast<std::uint16_t>(h + 1));
    const float tie = (low + high) * 0.5F;
    EXPECT_EQ(f32_to_f16(tie), (h & 1U) != 0 ? h + 1 : h);
    EXPECT_EQ(f32_to_f16(std::nextafterf(tie, 0.0F)), h);
    EXPECT_EQ(f32_to_f16(std::nextafterf(tie, 1e9F)), h + 1);
  }
  EXPECT_EQ(f32_to_f16(1e30F), 0x7BFFU);
  EXPECT_EQ(f32_to_f16(-65520.0F), 0xFBFFU);
  EXPECT_EQ(f32_to_f16(65519.9F), 0x7BFFU);
  EXPECT_FALSE(f16_saturates(65504.0F));
  EXPECT_TRUE(f16_saturates(65520.0F));
}

TEST(Numerics, OC_NUM_1105_store_flushes_below_2_to_minus_60) {
  EXPECT_EQ(bits_of(store(-0x1.fffffep-61F)), 0U);
  EXPECT_EQ(store(0x1p-60F), 0x1p-60F);
  EXPECT_EQ(bits_of(store(-0.0F)), 0U);
  EXPECT_TRUE(std::isnan(store(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Numerics, OC_NUM_1205_quantiser_extremes) {
  float x[32] = {};
  std::int8_t q[32];
  EXPECT_EQ(quantise_group(x, q).dx, 0.0F);
  x[3] = -2.0F;
  x[4] = 1.0F;
  const QuantGroup group = quantise_group(x, q);
  EXPECT_EQ(q[3], -127);
  EXPECT_EQ(q[4], 64);  // 63.5 away from zero
  EXPECT_EQ(group.sum, -63);
  x[5] = std::numeric_limits<float>::infinity();
  const QuantGroup bad = quantise_group(x, q);
  EXPECT_TRUE(std::isinf(bad.dx));
  EXPECT_EQ(q[3], 0);
  x[5] = 3.4e38F;
  EXPECT_EQ((quantise_group(x, q), q[5]), 127);
  x[5] = 0x1p-60F;
  x[3] = x[4] = 0.0F;
  EXPECT_EQ((quantise_group(x, q), q[5]), 127);
}

TEST(Numerics, OC_NUM_1301_tree_sum_has_the_stated_shape) {
  // 1 + 2^-24 * many: a different order gives a different sum, and the value follows from the tree by hand.
  std::array<float, 70> v{};
  v.fill(0x1p-24F);
  v[0] = 1.0F;
  float leaf0 = 1.0F + 0x1p-24F;                                               // stride 16: rounds to even, 1
  for (int i = 0; i < 4; ++i) leaf0 += 0x1p-23F * static_cast<float>(1 << i);  // strides 8, 4, 2, 1
  const float leaf1 = 32 * 0x1p-24F;
  const float leaf2 = 6 * 0x1p-24F;
  EXPECT_EQ(tree_sum(v.size(), [&v](std::size_t i) { return v[i]; }), (leaf0 + leaf1) + leaf2);
}

}  // namespace
}  // namespace orch::worker::numerics
