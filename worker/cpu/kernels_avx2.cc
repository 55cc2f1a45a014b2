#include "worker/cpu/kernels_avx2.h"

#include "worker/core/numerics.h"
#include "worker/cpu/avx2_math.h"
#include "worker/cpu/kernels_scalar.h"

namespace orch::worker::cpu::avx2 {
namespace {

ORCH_AVX2_INLINE std::uint32_t max_of(__m256i v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xB1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(m));
}

ORCH_AVX2_INLINE std::int32_t sum_of(__m256i v) {
  __m128i m = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0x4E));
  m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0xB1));
  return _mm_cvtsi128_si32(m);
}

ORCH_AVX2_INLINE __m256i quantise_lanes(__m256 x, __m256 id) {
  const __m256i q = round_lanes(_mm256_mul_ps(x, id));
  return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
}

// Four registers of int32 as 32 bytes in order. The packs work within 128-bit halves; the permute puts the dwords back.
ORCH_AVX2_INLINE __m256i pack_bytes(__m256i q0, __m256i q1, __m256i q2, __m256i q3) {
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q0, q1), _mm256_packs_epi32(q2, q3));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

void quantise_block(const float* x, std::int8_t* xq, float* dx, float* s, std::int32_t* sum) {
  const __m256 v[4] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8), _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)};
  const __m256i a01 = _mm256_max_epu32(_mm256_castps_si256(abs_lanes(v[0])), _mm256_castps_si256(abs_lanes(v[1])));
  const __m256i a23 = _mm256_max_epu32(_mm256_castps_si256(abs_lanes(v[2])), _mm256_castps_si256(abs_lanes(v[3])));
  const std::uint32_t amax = max_of(_mm256_max_epu32(a01, a23));
  if (amax < numerics::kTinyBits || amax >= numerics::kInfBits) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(xq), _mm256_setzero_si256());
    *dx = amax < numerics::kTinyBits ? 0.0F : __builtin_inff();
    *s = *dx;
    *sum = 0;
    return;
  }
  *dx = numerics::float_of(amax) * (1.0F / 127.0F);
  const __m256 id = rcp_lanes(_mm256_set1_ps(*dx));
  __m256i q[4];
  for (int i = 0; i < 4; ++i) q[i] = quantise_lanes(v[i], id);
  *sum = sum_of(_mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3])));
  *s = *dx * static_cast<float>(*sum);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(xq), pack_bytes(q[0], q[1], q[2], q[3]));
}

// Sums of 16 bytes each of 32, as two int16.
ORCH_AVX2_INLINE void sum_halves(__m256i bytes, std::int16_t* sum16) {
  // Per byte pair with a weight of 1: |pair| <= 254. Then over the lanes of each 128-bit half.
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  const __m256i quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  const __m256i eights = _mm256_add_epi32(quads, _mm256_shuffle_epi32(quads, 0x4E));
  const __m256i all = _mm256_add_epi32(eights, _mm256_shuffle_epi32(eights, 0xB1));
  sum16[0] = static_cast<std::int16_t>(_mm256_extract_epi32(all, 0));
  sum16[1] = static_cast<std::int16_t>(_mm256_extract_epi32(all, 4));
}

float quantise_wide_block(const float* x, std::int8_t* xq, std::int16_t* sum16, std::int16_t* sum32) {
  __m256i a = _mm256_setzero_si256();
  for (std::uint32_t i = 0; i < numerics::kWideGroup; i += 8) {
    a = _mm256_max_epu32(a, _mm256_castps_si256(abs_lanes(_mm256_loadu_ps(x + i))));
  }
  const std::uint32_t amax = max_of(a);
  if (amax < numerics::kTinyBits || amax >= numerics::kInfBits) {
    return numerics::quantise_wide_group(x, xq, sum16, sum32);
  }
  const float dx = numerics::float_of(amax) * (1.0F / 127.0F);
  const __m256 id = rcp_lanes(_mm256_set1_ps(dx));
  for (std::uint32_t i = 0; i < numerics::kWideGroup; i += 32) {
    __m256i q[4];
    for (std::uint32_t j = 0; j < 4; ++j) q[j] = quantise_lanes(_mm256_loadu_ps(x + i + 8 * j), id);
    const __m256i bytes = pack_bytes(q[0], q[1], q[2], q[3]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(xq + i), bytes);
    sum_halves(bytes, sum16 + i / 16);
    sum32[i / 32] = static_cast<std::int16_t>(sum16[i / 16] + sum16[i / 16 + 1]);
  }
  return dx;
}

}  // namespace

void quantise_wide(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, std::int16_t* sum16,
                   std::int16_t* sum32) {
  for (std::uint32_t at = 0; at < cols; at += numerics::kWideGroup) {
    dx[at / numerics::kWideGroup] = quantise_wide_block(x + at, xq + at, sum16 + at / 16, sum32 + at / 32);
  }
}

void quantise(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, float* s, std::int32_t* sum) {
  for (std::uint32_t b = 0; b < cols / 32; ++b) quantise_block(x + b * 32, xq + b * 32, dx + b, s + b, sum + b);
}

void rms_norm(const float* x, const float* w, std::uint32_t n, float eps, float* y) {
  if (n % 32 != 0) return scalar::rms_norm(x, w, n, eps, y);
  numerics::LeafTree tree;
  for (std::uint32_t i = 0; i < n; i += 32) {
    __m256 v[4];
    for (std::uint32_t j = 0; j < 4; ++j) {
      const __m256 a = _mm256_loadu_ps(x + i + 8 * j);
      v[j] = _mm256_mul_ps(a, a);
    }
    tree.add(leaf_sum_lanes(v[0], v[1], v[2], v[3]));
  }
  const float mean = tree.total() * (1.0F / static_cast<float>(n));
  const __m256 r = _mm256_set1_ps(numerics::rsqrt(mean + eps));
  for (std::uint32_t i = 0; i < n; i += 8) {
    const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), r), _mm256_loadu_ps(w + i));
    _mm256_storeu_ps(y + i, store_lanes(scaled));
  }
}

namespace {

// numerics::sigmoid.
ORCH_AVX2_INLINE __m256 sigmoid_lanes(__m256 x) {
  const __m256 minus = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<std::int32_t>(0x8000'0000U)));
  const __m256 e = exp_lanes(_mm256_or_ps(x, minus));
  const __m256 s = rcp_lanes(_mm256_add_ps(_mm256_set1_ps(1.0F), e));
  return _mm256_blendv_ps(s, _mm256_mul_ps(e, s), x);  // blendv reads the sign bit
}

// numerics::gelu. min and max return their second operand when one is NaN, so NaN passes.
ORCH_AVX2_INLINE __m256 gelu_lanes(__m256 x) {
  const __m256 clamped = _mm256_max_ps(_mm256_set1_ps(-16.0F), _mm256_min_ps(_mm256_set1_ps(16.0F), x));
  const __m256 cube = _mm256_mul_ps(_mm256_mul_ps(clamped, clamped), clamped);
  const __m256 sum = _mm256_add_ps(clamped, _mm256_mul_ps(cube, _mm256_set1_ps(0.044715F)));
  return _mm256_mul_ps(x, sigmoid_lanes(_mm256_mul_ps(sum, _mm256_set1_ps(1.5957691216F))));
}

}  // namespace

void silu_mul(const float* gate, const float* up, std::uint32_t n, float* out) {
  std::uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 g = _mm256_loadu_ps(gate + i);
    const __m256 silu = _mm256_mul_ps(g, sigmoid_lanes(g));
    _mm256_storeu_ps(out + i, store_lanes(_mm256_mul_ps(silu, _mm256_loadu_ps(up + i))));
  }
  if (i < n) scalar::silu_mul(gate + i, up + i, n - i, out + i);
}

void gelu_mul(const float* gate, const float* up, std::uint32_t n, float* out) {
  std::uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 gelu = gelu_lanes(_mm256_loadu_ps(gate + i));
    _mm256_storeu_ps(out + i, store_lanes(_mm256_mul_ps(gelu, _mm256_loadu_ps(up + i))));
  }
  if (i < n) scalar::gelu_mul(gate + i, up + i, n - i, out + i);
}

void rope_adjacent(float* x, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t pairs, const float* cosine,
                   const float* sine) {
  if (pairs % 4 != 0) return scalar::rope_adjacent(x, heads, head_dim, pairs, cosine, sine);
  const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  for (std::uint32_t head = 0; head < heads; ++head, x += head_dim) {
    for (std::uint32_t i = 0; i < pairs; i += 4) {
      const __m256 c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cosine + i)), twice);
      const __m256 s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sine + i)), twice);
      const __m256 v = _mm256_loadu_ps(x + 2 * i);
      const __m256 swapped = _mm256_permute_ps(v, 0xB1);
      // Even lanes a * cos - b * sin, odd lanes b * cos + a * sin.
      const __m256 turned = _mm256_addsub_ps(_mm256_mul_ps(v, c), _mm256_mul_ps(swapped, s));
      _mm256_storeu_ps(x + 2 * i, store_lanes(turned));
    }
  }
}

void rope_half(float* x, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t pairs, const float* cosine,
               const float* sine) {
  if (pairs % 8 != 0) return scalar::rope_half(x, heads, head_dim, pairs, cosine, sine);
  for (std::uint32_t head = 0; head < heads; ++head, x += head_dim) {
    for (std::uint32_t i = 0; i < pairs; i += 8) {
      const __m256 c = _mm256_loadu_ps(cosine + i);
      const __m256 s = _mm256_loadu_ps(sine + i);
      const __m256 a = _mm256_loadu_ps(x + i);
      const __m256 b = _mm256_loadu_ps(x + pairs + i);
      _mm256_storeu_ps(x + i, store_lanes(_mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s))));
      _mm256_storeu_ps(x + pairs + i, store_lanes(_mm256_add_ps(_mm256_mul_ps(a, s), _mm256_mul_ps(b, c))));
    }
  }
}

std::uint32_t narrow(const float* x, std::uint32_t n, std::uint16_t* out) {
  const __m256 limit = _mm256_set1_ps(65504.0F);
  std::uint32_t saturated = 0;
  for (std::uint32_t i = 0; i < n; i += 8) {
    const __m256 v = _mm256_loadu_ps(x + i);
    const __m256 over = _mm256_cmp_ps(abs_lanes(v), _mm256_set1_ps(65520.0F), _CMP_GE_OQ);
    const __m256 nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    if (_mm256_movemask_ps(_mm256_or_ps(over, nan)) != 0) {
      saturated += scalar::narrow(x + i, 8, out + i);
      continue;
    }
    const __m256 clamped = _mm256_max_ps(_mm256_min_ps(v, limit), _mm256_sub_ps(_mm256_setzero_ps(), limit));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm256_cvtps_ph(clamped, _MM_FROUND_TO_NEAREST_INT));
  }
  return saturated;
}

}  // namespace orch::worker::cpu::avx2
