// Every SIMD kernel equals the scalar reference to the byte, on random tensors of every type with row, column and batch
// tails (ENGINE-RULES: "Ours against ours: logit bytes equal. Hard gate").
#include "worker/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "common/base/prng.h"
#include "worker/core/numerics.h"
#include "worker/cpu/float_state.h"
#include "worker/model/tile_values.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker::cpu {
namespace {

using testing::random_floats;
using testing::random_tensor;

class Kernels : public ::testing::Test {
 protected:
  void SetUp() override {
    simd = avx2_kernels();
    if (simd == nullptr) GTEST_SKIP() << "this CPU has no AVX2 with F16C";
  }
  const CpuKernels& reference = scalar_kernels();
  const CpuKernels* simd = nullptr;
};

void expect_equal_bytes(const std::vector<float>& a, const std::vector<float>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(numerics::bits_of(a[i]), numerics::bits_of(b[i]))
        << what << " at " << i << ": " << a[i] << " and " << b[i];
  }
}

struct Input {
  std::vector<float> x;
  std::vector<std::int8_t> xq;
  std::vector<float> dx;
  std::vector<float> s;
  std::vector<std::int32_t> sum;
  std::vector<std::int8_t> wide_xq;
  std::vector<float> wide_dx;
  std::vector<std::int16_t> sum16;
  std::vector<std::int16_t> sum32;

  Input(const CpuKernels& kernels, std::uint32_t rows, std::uint32_t cols, std::uint64_t seed)
      : x(random_floats(std::size_t{rows} * cols, seed, 3.0F)),
        xq(x.size()),
        dx(x.size() / 32),
        s(dx.size()),
        sum(dx.size()),
        wide_xq(x.size()),
        wide_dx(x.size() / 256),
        sum16(x.size() / 16),
        sum32(x.size() / 32) {
    for (std::size_t i = 0; i < 32; ++i) x[i] = 0.0F;  // one empty group
    for (std::uint32_t r = 0; r < rows; ++r) {
      const std::size_t at = std::size_t{r} * cols;
      kernels.quantise(&x[at], cols, &xq[at], &dx[at / 32], &s[at / 32], &sum[at / 32]);
      if (cols % 256 != 0) continue;
      kernels.quantise_wide(&x[at], cols, &wide_xq[at], &wide_dx[at / 256], &sum16[at / 16], &sum32[at / 32]);
    }
  }
  ActivationRows rows(std::uint32_t cols) const {
    const WideRows wide = {wide_xq.data(), wide_dx.data(), sum16.data(), sum32.data()};
    return {cols, x.data(), xq.data(), dx.data(), s.data(), sum.data(), wide};
  }
  // Every quant at an extreme: rows of 127, of -127, and of both in turn.
  void saturate(std::uint32_t cols) {
    for (std::size_t i = 0; i < xq.size(); ++i) {
      const std::size_t row = i / cols % 3;
      xq[i] = static_cast<std::int8_t>(row == 0 ? 127 : (row == 1 ? -127 : (i % 2 == 0 ? 127 : -127)));
    }
    wide_xq = xq;
    for (std::size_t i = 0; i < sum16.size(); ++i) {
      sum16[i] = 0;
      for (std::size_t j = 0; j < 16; ++j) sum16[i] = static_cast<std::int16_t>(sum16[i] + xq[i * 16 + j]);
      if (i % 2 == 1) sum32[i / 2] = static_cast<std::int16_t>(sum16[i - 1] + sum16[i]);
    }
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = sum16[2 * i] + sum16[2 * i + 1];
  }
};

std::vector<float> multiply(const CpuKernels& kernels, const QTensor& w, const Input& input, std::uint32_t rows,
                            bool extras, std::uint32_t parts) {
  const std::vector<float> bias = random_floats(w.rows, 77, 1.0F);
  const std::size_t stride = w.rows + 5;
  std::vector<float> out = random_floats(rows * stride, 78, 1.0F);  // also the residual
  for (std::uint32_t part = 0; part < parts; ++part) {
    MatmulArgs args;
    args.weight = &w;
    args.bias = extras ? bias.data() : nullptr;
    args.residual = extras ? out.data() : nullptr;
    args.out = out.data();
    args.out_stride = stride;
    args.in = input.rows(w.cols);
    args.rows = rows;
    args.group_begin = w.row_groups() * part / parts;
    args.group_end = w.row_groups() * (part + 1) / parts;
    kernels.matmul(args);
  }
  return out;
}

TEST_F(Kernels, OC_NUM_1501_matmul_equals_scalar_for_every_type_and_batch_to_40) {
  for (const TensorType type : kTensorTypes) {
    const std::uint32_t cols = is_wide(type) ? 512 : 320;
    const QTensor w = random_tensor(type, 53, cols, 4);
    for (std::uint32_t rows = 1; rows <= 40; ++rows) {
      const Input input(reference, rows, cols, rows);
      expect_equal_bytes(multiply(reference, w, input, rows, rows % 2 == 0, 1),
                         multiply(*simd, w, input, rows, rows % 2 == 0, 2), to_string(type));
    }
  }
}

TEST_F(Kernels, OC_NUM_1201_matmul_equals_scalar_for_every_shape) {
  for (const TensorType type : kTensorTypes) {
    for (const std::uint32_t n : {1U, 7U, 8U, 9U, 16U, 17U, 31U, 33U}) {
      for (const std::uint32_t cols : {32U, 224U, 256U, 288U, 576U, 1536U}) {
        if (cols % tile_cols(type) != 0) continue;
        const QTensor w = random_tensor(type, n, cols, n + cols);
        const Input input(reference, 5, cols, n);
        expect_equal_bytes(multiply(reference, w, input, 5, true, 1), multiply(*simd, w, input, 5, true, 1),
                           to_string(type));
      }
    }
  }
}

// 1 + 2^-24 + 2^-24 from left to right is 1; any other order gives 1 + 2^-23.
TEST_F(Kernels, OC_NUM_1204_bias_comes_before_residual) {
  QTensor w = random_tensor(TensorType::f32, 16, 32, 1);
  std::memset(w.quants.data(), 0, w.quants.size());
  for (std::size_t lane = 0; lane < 16; ++lane) w.quants.as<float>()[lane] = 1.0F;  // k = 0
  std::vector<float> x(32);
  x[0] = 1.0F;
  const std::vector<float> bias(16, 0x1p-24F);
  for (const CpuKernels* kernels : {&reference, simd}) {
    std::vector<float> out(16, 0x1p-24F);
    MatmulArgs args;
    args.weight = &w;
    args.bias = bias.data();
    args.residual = out.data();
    args.out = out.data();
    args.out_stride = 16;
    args.in.cols = 32;
    args.in.x = x.data();
    args.rows = 1;
    args.group_end = 1;
    kernels->matmul(args);
    for (const float value : out) EXPECT_EQ(value, 1.0F) << kernels->name;
  }
}

// The definition written out by hand for one row: terms of 2^24 and 1 in different splits and blocks.
TEST_F(Kernels, OC_NUM_1202_block_terms_are_added_in_order_within_a_split) {
  QTensor w = random_tensor(TensorType::q8_0, 16, 320, 1);
  std::memset(w.quants.data(), 0, w.quants.size());
  for (std::uint32_t b = 0; b < 10; ++b) {
    for (std::uint32_t lane = 0; lane < 16; ++lane) {
      w.scales.as<std::uint16_t>()[b * 16 + lane] = numerics::f32_to_f16(1.0F);
      w.quants.as<std::int8_t>()[b * 512 + lane * 4] = 1;  // k = 0 of each block
    }
  }
  Input input(reference, 1, 320, 5);
  std::fill(input.xq.begin(), input.xq.end(), std::int8_t{1});
  // Per block t = dx: 2^24, 1, 1, ..., 1 | 1, 1. In order the seven ones after 2^24 are lost, the last split's two are
  // not.
  std::fill(input.dx.begin(), input.dx.end(), 1.0F);
  input.dx[0] = 0x1p24F;
  for (const CpuKernels* kernels : {&reference, simd}) {
    EXPECT_EQ(multiply(*kernels, w, input, 1, false, 1)[0], 0x1p24F + 2.0F) << kernels->name;
  }
}

// ENGINE-RULES: VPMADDUBSW saturates; every weight and activation at its extreme.
TEST_F(Kernels, OC_NUM_1207_matmul_survives_extreme_integers) {
  for (const TensorType type : kTensorTypes) {
    if (!is_quantised(type)) continue;
    for (const int fill : {0x00, 0x0F, 0xF0, 0xFF, 0x80, 0x7F, 0x81}) {
      QTensor w = random_tensor(type, 16, 512, 3);
      std::memset(w.quants.data(), fill, w.quants.size());  // 0x80: w = -128, or a sub-scale of -128
      Input input(reference, 6, 512, 6);
      input.saturate(512);
      expect_equal_bytes(multiply(reference, w, input, 6, false, 1), multiply(*simd, w, input, 6, false, 1),
                         to_string(type));
    }
  }
}

// The contract's K-quant term by hand, from the tile's elements: P and N as exact integers, one block a split.
TEST_F(Kernels, OC_NUM_1203_k_quant_terms_follow_the_contract) {
  for (const TensorType type : {TensorType::q4_k, TensorType::q5_k, TensorType::q6_k}) {
    const QTensor w = random_tensor(type, 16, 512, 8);
    const Input input(reference, 1, 512, 9);
    const std::vector<float> got = multiply(*simd, w, input, 1, false, 1);
    for (std::uint32_t lane = 0; lane < 16; ++lane) {
      float tot = 0.0F;
      for (std::uint32_t b = 0; b < 2; ++b) {
        std::int64_t p = 0;
        std::int64_t n = 0;
        for (std::uint32_t k = 0; k < 256; ++k) {
          const std::int64_t x = input.wide_xq[b * 256 + k];
          p += x * quant_at(type, w.tile(0, b), lane, k) * sub_scale(type, w.tile(0, b), lane, k);
          if (has_minimum(type)) n += x * sub_minimum(type, w.tile(0, b), lane, k);
        }
        const std::uint16_t* scale = w.tile_scale(0, b);
        float t = (numerics::f16_to_f32(scale[lane]) * input.wide_dx[b]) * static_cast<float>(p);
        if (has_minimum(type)) {
          t = t - (numerics::f16_to_f32(scale[16 + lane]) * input.wide_dx[b]) * static_cast<float>(n);
        }
        tot = tot + t;
      }
      EXPECT_EQ(numerics::bits_of(got[lane]), numerics::bits_of(numerics::store(tot)))
          << to_string(type) << " " << lane;
    }
  }
}

TEST_F(Kernels, OC_NUM_1205_quantiser_equals_scalar) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
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

TEST_F(Kernels, OC_NUM_1302_norm_equals_scalar) {
  for (const std::uint32_t n : {8U, 32U, 64U, 96U, 100U, 576U, 1056U, 2048U}) {
    const std::vector<float> x = random_floats(n, n, 5.0F);
    const std::vector<float> w = random_floats(n, n + 1, 1.5F);
    std::vector<float> a(n), b(n);
    reference.rms_norm(x.data(), w.data(), n, 1e-5F, a.data());
    simd->rms_norm(x.data(), w.data(), n, 1e-5F, b.data());
    expect_equal_bytes(a, b, "rms_norm");
  }
}

TEST_F(Kernels, OC_NUM_1501_silu_mul_and_gelu_mul_equal_scalar_over_the_whole_range) {
  std::vector<float> gate;
  for (std::uint32_t bits = 0; bits < 0x4300'0000U; bits += 4099) {
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

TEST_F(Kernels, OC_NUM_1304_rope_equals_scalar) {
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
TEST_F(Kernels, OC_NUM_1305_narrowing_equals_the_integer_definition) {
  for (const bool flush : {false, true}) {
    const FloatState state(flush);
    for (std::uint32_t i = 0; i < (1U << 20); i += 8) {
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

TEST_F(Kernels, OC_NUM_1303_attention_equals_scalar_over_splits_and_tails) {
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
    expect_equal_bytes(attend(reference, c), attend(*simd, c), "attention");
  }
}

TEST_F(Kernels, OC_NUM_1303_attention_under_a_window_equals_scalar) {
  for (const AttentionCase c : {AttentionCase{1, 3, 64, 0, 1},
                                {10, 3, 64, 20, 24},
                                {10, 2, 32, 250, 7},
                                {8, 1, 64, 252, 256},
                                {9, 2, 64, 300, 40},
                                {4, 2, 24, 767, 512},
                                {4, 1, 256, 600, 100}}) {
    expect_equal_bytes(attend(reference, c), attend(*simd, c), "attention");
  }
}

// A window that reaches position 0 changes nothing; one key less does.
TEST_F(Kernels, OC_NUM_1303_a_window_hides_exactly_the_keys_before_it) {
  for (const CpuKernels* kernels : {&reference, simd}) {
    const std::vector<float> all = attend(*kernels, {1, 2, 64, 299});
    EXPECT_EQ(attend(*kernels, {1, 2, 64, 299, 300}), all);
    EXPECT_NE(attend(*kernels, {1, 2, 64, 299, 299}), all);
  }
}

// Rows computed together equal rows computed alone.
TEST_F(Kernels, OC_NUM_1303_attention_does_not_depend_on_the_row_tile) {
  const std::vector<float> together = attend(*simd, {10, 3, 64, 0});
  EXPECT_EQ(together.size(), 10u * 3 * 64);
  const std::vector<float> reference_rows = attend(reference, {10, 3, 64, 0});
  expect_equal_bytes(together, reference_rows, "tile");
}

}  // namespace
}  // namespace orch::worker::cpu
