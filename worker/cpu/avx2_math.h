// Eight-lane mirrors of worker/core/numerics.h, step by step the same operations. Only for the AVX2 files.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define ORCH_AVX2_INLINE static inline __attribute__((always_inline))

namespace orch::worker::cpu::avx2 {

ORCH_AVX2_INLINE __m256 abs_lanes(__m256 x) {
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFF'FFFF)));
}

ORCH_AVX2_INLINE __m256 sign_lanes(__m256 x) {
  return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<std::int32_t>(0x8000'0000U))));
}

// numerics::store: magnitudes under 2^-60 become +0, NaN passes.
ORCH_AVX2_INLINE __m256 store_lanes(__m256 x) {
  return _mm256_and_ps(x, _mm256_cmp_ps(abs_lanes(x), _mm256_set1_ps(0x1p-60F), _CMP_NLT_UQ));
}

// trunc(x + copysign(0.5, x)) as int32.
ORCH_AVX2_INLINE __m256i round_lanes(__m256 x) {
  return _mm256_cvttps_epi32(_mm256_add_ps(x, _mm256_or_ps(sign_lanes(x), _mm256_set1_ps(0.5F))));
}

// numerics::rcp for positive lanes.
ORCH_AVX2_INLINE __m256 rcp_lanes(__m256 x) {
  __m256 y = _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32(0x7EF3'11C7), _mm256_castps_si256(x)));
  for (int i = 0; i < 4; ++i) {
    const __m256 e = _mm256_sub_ps(_mm256_set1_ps(1.0F), _mm256_mul_ps(x, y));
    y = _mm256_add_ps(y, _mm256_mul_ps(y, e));
  }
  return y;
}

// numerics::exp for lanes that are at most 88 or NaN.
ORCH_AVX2_INLINE __m256 exp_lanes(__m256 x) {
  const __m256 keep = _mm256_cmp_ps(x, _mm256_set1_ps(-30.0F), _CMP_NLT_UQ);
  const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  const __m256i n = round_lanes(_mm256_mul_ps(x, _mm256_set1_ps(0x1.715476p+0F)));
  const __m256 nf = _mm256_cvtepi32_ps(n);
  const __m256 high = _mm256_sub_ps(x, _mm256_mul_ps(nf, _mm256_set1_ps(0.693359375F)));
  const __m256 r = _mm256_sub_ps(high, _mm256_mul_ps(nf, _mm256_set1_ps(-0x1.bd0106p-13F)));
  __m256 p = _mm256_set1_ps(1.0F / 5040.0F);
  p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0F / 720.0F));
  p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0F / 120.0F));
  p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0F / 24.0F));
  p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0F / 6.0F));
  p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(0.5F));
  const __m256 e = _mm256_add_ps(_mm256_add_ps(_mm256_mul_ps(_mm256_mul_ps(p, r), r), r), _mm256_set1_ps(1.0F));
  const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23);
  const __m256 value = _mm256_and_ps(_mm256_mul_ps(e, _mm256_castsi256_ps(power)), keep);
  return _mm256_blendv_ps(value, x, nan);
}

// numerics::leaf_sum of 32 contiguous values held in four registers.
ORCH_AVX2_INLINE float leaf_sum_lanes(__m256 v0, __m256 v1, __m256 v2, __m256 v3) {
  const __m256 by8 = _mm256_add_ps(_mm256_add_ps(v0, v2), _mm256_add_ps(v1, v3));
  const __m128 by4 = _mm_add_ps(_mm256_castps256_ps128(by8), _mm256_extractf128_ps(by8, 1));
  const __m128 by2 = _mm_add_ps(by4, _mm_movehl_ps(by4, by4));
  return _mm_cvtss_f32(_mm_add_ss(by2, _mm_movehdup_ps(by2)));
}

// Eight f16 values widened (VCVTPH2PS is exact and ignores denormals-are-zero).
ORCH_AVX2_INLINE __m256 widen_lanes(const std::uint16_t* h) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(h)));
}

}  // namespace orch::worker::cpu::avx2
