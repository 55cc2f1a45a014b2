// Every SIMD kernel but the matmul (matmul_test.cc) equals the scalar reference to the byte.
#include "worker/cpu/kernels.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>

#include "worker/core/numerics.h"
#include "worker/cpu/float_state.h"
#include "worker/cpu/kernels_fixture.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker::cpu {

INSTANTIATE_TEST_SUITE_P(Simd, Kernels, ::testing::ValuesIn(simd_kernels()),
                         [](const auto& of) { return std::string(of.param->name).substr(std::strlen("cpu-")); });

namespace {

using testing::random_floats;

// The emulated tests look for these lines: each names a CPU model and what it must lack.
TEST(KernelChoice, OC_DEVICE_1005_a_table_is_there_unless_something_is_missing) {
  EXPECT_EQ(avx2_kernels() == nullptr, !missing_for_avx2().empty());
  EXPECT_EQ(avx512vnni_kernels() == nullptr, !missing_for_avx512vnni().empty());
  EXPECT_TRUE(avx512vnni_kernels() == nullptr || avx2_kernels() != nullptr);
  const std::vector<const CpuKernels*> tables = simd_kernels();
  EXPECT_EQ(&best_kernels(), tables.empty() ? &scalar_kernels() : tables.back());
  std::printf("avx512vnni lacks '%s', auto takes %s\n", missing_for_avx512vnni().c_str(), best_kernels().name);
}

TEST_P(Kernels, OC_NUM_1205_quantiser_equals_scalar) {
  for (std::uint64_t seed = 0; seed < 200; seed += kEmulated ? 7 : 1) {
    const float scale =
        numerics::float_of(static_cast<std::uint32_t>(30 + seed) << 23);  // from denormal products to huge
    std::vector<float> x = random_floats(1024, seed, scale);
    if (seed % 5 == 0) x[40] = std::numeric_limits<float>::infinity();
    if (seed % 5 == 1) x[40] = std::numeric_limits<float>::quiet_NaN();
    std::vector<std::int8_t> qa(1024), qb(1024);
    std::vector<float> da(32), db(32), sa(32), sb(32);
    std::vector<std::int32_t> na(32), nb(32);
    reference.quantise(x.data(), 1024, qa.data(), da.data(), sa.data(), na.data());
    simd->quantise(x.data(), 1024, qb.data(), db.data(), sb.data(), nb.data());
    ASSERT_EQ(qa, qb) << seed;
    ASSERT_EQ(na, nb) << seed;
    expect_equal_bytes(da, db, "dx");
    expect_equal_bytes(sa, sb, "s");
    std::vector<std::int16_t> ta(64), tb(64), ua(32), ub(32);
    reference.quantise_wide(x.data(), 1024, qa.data(), da.data(), ta.data(), ua.data());
    simd->quantise_wide(x.data(), 1024, qb.data(), db.data(), tb.data(), ub.data());
    ASSERT_EQ(qa, qb) << seed;
    ASSERT_EQ(ta, tb) << seed;
    ASSERT_EQ(ua, ub) << seed;
    expect_equal_bytes(da, db, "dx of 256");
  }
}

TEST_P(Kernels, OC_NUM_1302_norm_equals_scalar) {
  for (const std::uint32_t n : {8U, 32U, 64U, 96U, 100U, 576U, 1056U, 2048U}) {
    const std::vector<float> x = random_floats(n, n, 5.0F);
    const std::vector<float> w = random_floats(n, n + 1, 1.5F);
    std::vector<float> a(n), b(n);
    reference.rms_norm(x.data(), w.data(), n, 1e-5F, a.data());
    simd->rms_norm(x.data(), w.data(), n, 1e-5F, b.data());
    expect_equal_bytes(a, b, "rms_norm");
  }
}

TEST_P(Kernels, OC_NUM_1501_silu_mul_and_gelu_mul_equal_scalar_over_the_whole_range) {
  std::vector<float> gate;
  for (std::uint32_t bits = 0; bits < 0x4300'0000U; bits += kEmulated ? 4099 * 64 : 4099) {
    gate.push_back(numerics::float_of(bits));
    gate.push_back(-gate.back());
  }
  for (const float edge : {30.0F, -30.0F, -30.00001F, 0.0F, 88.5F, -1e30F, 1e30F}) gate.push_back(edge);
  const std::vector<float> up = random_floats(gate.size(), 8, 4.0F);
  std::vector<float> a(gate.size()), b(gate.size());
  const std::uint32_t n = static_cast<std::uint32_t>(gate.size());
  reference.silu_mul(gate.data(), up.data(), n, a.data());
  simd->silu_mul(gate.data(), up.data(), n, b.data());
  expect_equal_bytes(a, b, "silu_mul");
  reference.gelu_mul(gate.data(), up.data(), n, a.data());
  simd->gelu_mul(gate.data(), up.data(), n, b.data());
  expect_equal_bytes(a, b, "gelu_mul");
}

TEST_P(Kernels, OC_NUM_1304_rope_equals_scalar) {
  for (const std::uint32_t pairs : {4U, 6U, 8U, 32U}) {
    const std::uint32_t dim = pairs * 2 + 8;  // an unrotated tail
    std::vector<float> a = random_floats(std::size_t{3} * dim, pairs, 2.0F);
    std::vector<float> b = a;
    const std::vector<float> cosine = random_floats(pairs, 1, 1.0F);
    const std::vector<float> sine = random_floats(pairs, 2, 1.0F);
    reference.rope_adjacent(a.data(), 3, dim, pairs, cosine.data(), sine.data());
    simd->rope_adjacent(b.data(), 3, dim, pairs, cosine.data(), sine.data());
    expect_equal_bytes(a, b, "rope of adjacent pairs");
    reference.rope_half(a.data(), 3, dim, pairs, cosine.data(), sine.data());
    simd->rope_half(b.data(), 3, dim, pairs, cosine.data(), sine.data());
    expect_equal_bytes(a, b, "rope of halves");
  }
}

// 2^20 patterns over the whole f32 range, all saturating and NaN ones included.
TEST_P(Kernels, OC_NUM_1305_narrowing_equals_the_integer_definition) {
  for (const bool flush : {false, true}) {
    const FloatState state(flush);
    for (std::uint32_t i = 0; i < (1U << 20); i += kEmulated ? 8 * 64 : 8) {
      float x[8];
      std::uint16_t a[8];
      std::uint16_t b[8];
      for (std::uint32_t j = 0; j < 8; ++j) x[j] = numerics::float_of((i + j) << 12 | ((i * 2654435761U) >> 20));
      ASSERT_EQ(reference.narrow(x, 8, a), simd->narrow(x, 8, b)) << i;
      ASSERT_EQ(std::memcmp(a, b, sizeof(a)), 0) << i;
    }
  }
}

struct AttentionCase {
  std::uint32_t rows;
  std::uint32_t heads;
  std::uint32_t head_dim;
  std::uint32_t first;
  std::uint32_t window = 0;
};

std::vector<float> attend(const CpuKernels& kernels, const AttentionCase& c) {
  const std::uint32_t context = c.first + c.rows;
  const std::uint32_t pages = context / kPageTokens + 1;
  const std::size_t tile = std::size_t{kPageTokens} * c.head_dim;
  std::vector<std::uint16_t> kv(pages * tile * 2);
  const std::vector<float> values = random_floats(kv.size(), 21, 2.0F);
  for (std::size_t i = 0; i < kv.size(); ++i) kv[i] = numerics::f32_to_f16(values[i]);
  std::vector<PageId> order;
  for (std::uint32_t p = 0; p < pages; ++p)
    order.push_back((p * 7 + 3) % pages);  // a permutation unless 7 divides pages
  if (pages % 7 == 0)
    for (std::uint32_t p = 0; p < pages; ++p) order[p] = pages - 1 - p;
  const std::size_t stride = std::size_t{c.heads} * c.head_dim;
  const std::vector<float> query = random_floats(c.rows * stride, 22, 3.0F);
  std::vector<float> out(query.size());
  std::vector<float> workspace(attention_workspace_floats(c.heads, c.head_dim, context));
  AttentionArgs args;
  args.query = query.data();
  args.out = out.data();
  args.stride = stride;
  args.rows = c.rows;
  args.heads = c.heads;
  args.head_dim = c.head_dim;
  args.first_position = c.first;
  args.window = c.window;
  args.scale = numerics::rsqrt(static_cast<float>(c.head_dim));
  args.kv_base = kv.data();
  args.page_stride = tile * 2;
  args.value_offset = tile;
  args.pages = order;
  args.workspace = workspace.data();
  kernels.attention(args);
  return out;
}

TEST_P(Kernels, OC_NUM_1303_attention_equals_scalar_over_splits_and_tails) {
  for (const AttentionCase c : {AttentionCase{1, 3, 64, 0},
                                {1, 3, 64, 31},
                                {1, 1, 8, 32},
                                {2, 4, 16, 254},
                                {10, 3, 64, 250},
                                {1, 3, 64, 255},
                                {1, 3, 64, 256},
                                {8, 4, 40, 505},
                                {1, 2, 128, 1023},
                                {5, 6, 24, 767}}) {
    if (kEmulated && c.first > 400) continue;
    expect_equal_bytes(attend(reference, c), attend(*simd, c), "attention");
  }
}

TEST_P(Kernels, OC_NUM_1303_attention_under_a_window_equals_scalar) {
  for (const AttentionCase c : {AttentionCase{1, 3, 64, 0, 1},
                                {10, 3, 64, 20, 24},
                                {10, 2, 32, 250, 7},
                                {8, 1, 64, 252, 256},
                                {9, 2, 64, 300, 40},
                                {4, 2, 24, 767, 512},
                                {4, 1, 256, 600, 100}}) {
    if (kEmulated && c.first > 400) continue;
    expect_equal_bytes(attend(reference, c), attend(*simd, c), "attention");
  }
}

// A window that reaches position 0 changes nothing; one key less does.
TEST_P(Kernels, OC_NUM_1303_a_window_hides_exactly_the_keys_before_it) {
  for (const CpuKernels* kernels : {&reference, simd}) {
    const std::vector<float> all = attend(*kernels, {1, 2, 64, 299});
    EXPECT_EQ(attend(*kernels, {1, 2, 64, 299, 300}), all);
    EXPECT_NE(attend(*kernels, {1, 2, 64, 299, 299}), all);
  }
}

// Rows computed together equal rows computed alone.
TEST_P(Kernels, OC_NUM_1303_attention_does_not_depend_on_the_row_tile) {
  const std::vector<float> together = attend(*simd, {10, 3, 64, 0});
  EXPECT_EQ(together.size(), 10u * 3 * 64);
  const std::vector<float> reference_rows = attend(reference, {10, 3, 64, 0});
  expect_equal_bytes(together, reference_rows, "tile");
}

}  // namespace
}  // namespace orch::worker::cpu
