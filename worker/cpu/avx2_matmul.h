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

void matmul_wide(const MatmulArgs& args);  // K-quants

}  // namespace orch::worker::cpu::avx2
