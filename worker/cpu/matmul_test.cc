// Matrix times activation rows: every SIMD kernel equals the scalar reference to the byte, on random tensors of every
// type with row, column and batch tails (ENGINE-RULES: "Ours against ours: logit bytes equal. Hard gate").
#include <cstring>
#include <vector>

#include "worker/cpu/kernels_fixture.h"
#include "worker/model/tile_values.h"
#include "worker/testing/tiny_model.h"

namespace orch::worker::cpu {
namespace {

using testing::random_floats;
using testing::random_tensor;

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

TEST_P(Kernels, OC_NUM_1501_matmul_equals_scalar_for_every_type_and_batch_to_40) {
  for (const TensorType type : kTensorTypes) {
    const std::uint32_t cols = is_wide(type) ? 512 : 320;
    const QTensor w = random_tensor(type, 53, cols, 4);
    for (std::uint32_t rows = 1; rows <= (kEmulated ? 9 : 40); rows += kEmulated && rows > 1 ? 3 : 1) {
      const Input input(reference, rows, cols, rows);
      expect_equal_bytes(multiply(reference, w, input, rows, rows % 2 == 0, 1),
                         multiply(*simd, w, input, rows, rows % 2 == 0, 2), to_string(type));
    }
  }
}

TEST_P(Kernels, OC_NUM_1201_matmul_equals_scalar_for_every_shape) {
  for (const TensorType type : kTensorTypes) {
    for (const std::uint32_t n : {1U, 7U, 8U, 9U, 16U, 17U, 31U, 33U}) {
      for (const std::uint32_t cols : {32U, 224U, 256U, 288U, 576U, 1536U}) {
        if (cols % tile_cols(type) != 0 || (kEmulated && n * cols > 33 * 256)) continue;
        const QTensor w = random_tensor(type, n, cols, n + cols);
        const Input input(reference, 5, cols, n);
        expect_equal_bytes(multiply(reference, w, input, 5, true, 1), multiply(*simd, w, input, 5, true, 1),
                           to_string(type));
      }
    }
  }
}

// 1 + 2^-24 + 2^-24 from left to right is 1; any other order gives 1 + 2^-23.
TEST_P(Kernels, OC_NUM_1204_bias_comes_before_residual) {
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
TEST_P(Kernels, OC_NUM_1202_block_terms_are_added_in_order_within_a_split) {
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
  std::fill(input.sum.begin(), input.sum.end(), 32);
  // Per block t = dx: 2^24, 1, 1, ..., 1 | 1, 1. In order the seven ones after 2^24 are lost, the last split's two are
  // not.
  std::fill(input.dx.begin(), input.dx.end(), 1.0F);
  input.dx[0] = 0x1p24F;
  for (const CpuKernels* kernels : {&reference, simd}) {
    EXPECT_EQ(multiply(*kernels, w, input, 1, false, 1)[0], 0x1p24F + 2.0F) << kernels->name;
  }
}

// ENGINE-RULES: VPMADDUBSW saturates; every weight and activation at its extreme.
TEST_P(Kernels, OC_NUM_1207_matmul_survives_extreme_integers) {
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
TEST_P(Kernels, OC_NUM_1203_k_quant_terms_follow_the_contract) {
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

}  // namespace
}  // namespace orch::worker::cpu
