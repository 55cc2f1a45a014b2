// What the AVX2 matmul kernels share: loads of weights and activations, and the end of an output. Only for the AVX2
// files.
#pragma once

#include <cstring>

#include "worker/core/numerics.h"
#include "worker/cpu/avx2_math.h"
#include "worker/cpu/kernels.h"

namespace orch::worker::cpu::avx2 {

ORCH_AVX2_INLINE __m256i broadcast_quad(const std::int8_t* at) {
  std::int32_t quad;
  std::memcpy(&quad, at, sizeof(quad));
  return _mm256_set1_epi32(quad);
}

ORCH_AVX2_INLINE __m256i load_lanes(const std::uint8_t* at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}

// Bias, residual, store of 8 results; `valid` < 8 only in the last group of a matrix.
ORCH_AVX2_INLINE void finish(const MatmulArgs& args, std::uint32_t row, std::size_t column, __m256 value) {
  const std::size_t rows = args.weight->rows;
  if (column >= rows) return;
  const std::size_t valid = rows - column < 8 ? rows - column : 8;
  float* out = args.out + row * args.out_stride + column;
  alignas(32) float lanes[8] = {};
  if (valid == 8) {
    if (args.bias != nullptr) value = _mm256_add_ps(value, _mm256_loadu_ps(args.bias + column));
    if (args.residual != nullptr) {
      value = _mm256_add_ps(value, _mm256_loadu_ps(args.residual + row * args.out_stride + column));
    }
    _mm256_storeu_ps(out, store_lanes(value));
    return;
  }
  _mm256_store_ps(lanes, value);
  for (std::size_t i = 0; i < valid; ++i) {
    if (args.bias != nullptr) lanes[i] = lanes[i] + args.bias[column + i];
    if (args.residual != nullptr) lanes[i] = lanes[i] + args.residual[row * args.out_stride + column + i];
    out[i] = numerics::store(lanes[i]);
  }
}

// Sums of Halves x 8 weight rows by Rows activation rows.
template <int Halves, int Rows>
ORCH_AVX2_INLINE void clear(__m256 (&sums)[Halves][Rows]) {
  for (int h = 0; h < Halves; ++h) {
    for (int n = 0; n < Rows; ++n) sums[h][n] = _mm256_setzero_ps();
  }
}

template <int Halves, int Rows>
ORCH_AVX2_INLINE void finish_all(const MatmulArgs& args, std::uint32_t group, int half, std::uint32_t row,
                                 const __m256 (&sums)[Halves][Rows]) {
  for (int h = 0; h < Halves; ++h) {
    for (int n = 0; n < Rows; ++n) {
      finish(args, row + static_cast<std::uint32_t>(n),
             std::size_t{group} * kTileRows + static_cast<std::size_t>(half + h) * 8, sums[h][n]);
    }
  }
}

// Kernel::multiply<Halves, Rows>(args, group, half, row) over all rows: four activation rows at a time by half a tile,
// the rest one by one by a whole tile. Each group's strip of tiles is read from memory once and stays in the
// first-level cache for all activation rows.
template <typename Kernel>
ORCH_AVX2_INLINE void multiply_rows(const MatmulArgs& args) {
  constexpr int kRows = 4;
  for (std::uint32_t group = args.group_begin; group < args.group_end; ++group) {
    std::uint32_t row = 0;
    for (; row + kRows <= args.rows; row += kRows) {
      Kernel::template multiply<1, kRows>(args, group, 0, row);
      Kernel::template multiply<1, kRows>(args, group, 1, row);
    }
    for (; row < args.rows; ++row) Kernel::template multiply<2, 1>(args, group, 0, row);
  }
}

void matmul_wide(const MatmulArgs& args);  // K-quants

}  // namespace orch::worker::cpu::avx2
