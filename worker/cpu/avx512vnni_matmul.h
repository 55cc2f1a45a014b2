// What the AVX-512 matmul kernels share: loads of weights and activations, and the end of an output. A register holds
// the 16 rows of a tile, so every lane keeps its own sums in the contract's order. Only for the AVX-512 files.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "worker/core/numerics.h"
#include "worker/cpu/kernels.h"

#define ORCH_AVX512_INLINE static inline __attribute__((always_inline))

namespace orch::worker::cpu::avx512vnni {

static_assert(kTileRows == 16);

// The 4 x 16 bytes of a tile's next four columns.
ORCH_AVX512_INLINE __m512i load_quads(const std::uint8_t* at) { return _mm512_load_si512(at); }

ORCH_AVX512_INLINE __m512i broadcast_quad(const std::int8_t* at) {
  std::int32_t quad;
  std::memcpy(&quad, at, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

ORCH_AVX512_INLINE __m512i broadcast_pair(const std::int16_t* at) {
  std::int32_t pair;
  std::memcpy(&pair, at, sizeof(pair));
  return _mm512_set1_epi32(pair);
}

// VPDPBUSD: sum + four products of an unsigned and a signed byte per lane, in 32 bits and without saturation.
ORCH_AVX512_INLINE __m512i add_products(__m512i sum, __m512i unsigned_bytes, __m512i signed_bytes) {
  return _mm512_dpbusd_epi32(sum, unsigned_bytes, signed_bytes);
}

// 16 f16 values widened (VCVTPH2PS is exact and ignores denormals-are-zero).
ORCH_AVX512_INLINE __m512 widen_lanes(const std::uint16_t* h) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(h)));
}

// numerics::store: magnitudes under 2^-60 become +0, NaN passes.
ORCH_AVX512_INLINE __m512 store_lanes(__m512 x) {
  const __mmask16 keep = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(0x1p-60F), _CMP_NLT_UQ);
  return _mm512_maskz_mov_ps(keep, x);
}

// Bias, residual, store of 16 results; lanes past the matrix, only in its last group, are neither read nor written.
ORCH_AVX512_INLINE void finish(const MatmulArgs& args, std::uint32_t row, std::uint32_t group, __m512 value) {
  const std::size_t column = std::size_t{group} * kTileRows;
  const std::size_t left = args.weight->rows - column;
  const __mmask16 valid = static_cast<__mmask16>(left >= kTileRows ? 0xFFFFU : (1U << left) - 1U);
  if (args.bias != nullptr) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(valid, args.bias + column));
  if (args.residual != nullptr) {
    const float* residual = args.residual + row * args.out_stride + column;
    value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(valid, residual));
  }
  _mm512_mask_storeu_ps(args.out + row * args.out_stride + column, valid, store_lanes(value));
}

template <int Rows>
ORCH_AVX512_INLINE void finish_all(const MatmulArgs& args, std::uint32_t group, std::uint32_t row,
                                   const __m512 (&sums)[Rows]) {
  for (int n = 0; n < Rows; ++n) finish(args, row + static_cast<std::uint32_t>(n), group, sums[n]);
}

// Asks for a tile ahead of the loads, across page borders where the hardware prefetcher stops.
ORCH_AVX512_INLINE void ask_for(const std::uint8_t* tile, std::size_t bytes) {
  for (std::size_t line = 0; line < bytes; line += 64) _mm_prefetch(tile + line, _MM_HINT_T0);
}

// Kernel::multiply<Rows>(args, group, row) over all rows, eight or four at a time, the rest one by one. Each group's
// strip of tiles is read from memory once and stays in the first-level cache for all activation rows.
template <typename Kernel>
ORCH_AVX512_INLINE void multiply_rows(const MatmulArgs& args) {
  for (std::uint32_t group = args.group_begin; group < args.group_end; ++group) {
    std::uint32_t row = 0;
    for (; row + 8 <= args.rows; row += 8) Kernel::template multiply<8>(args, group, row);
    for (; row + 4 <= args.rows; row += 4) Kernel::template multiply<4>(args, group, row);
    for (; row < args.rows; ++row) Kernel::template multiply<1>(args, group, row);
  }
}

void matmul_wide(const MatmulArgs& args);  // K-quants

}  // namespace orch::worker::cpu::avx512vnni
