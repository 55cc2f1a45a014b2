// K-quants times activation rows: tiles of 256 columns, weight rows in lanes. Sums of unsigned quants times xq stay in
// 16 bits for as many words as cannot saturate, then VPMADDWD multiplies them by the sub-scale into P; a second
// VPMADDWD makes N (or the offset of Q6_K) from pairs of sub-scales and sums of xq.
#include "worker/cpu/avx2_matmul.h"
#include "worker/cpu/kernels_avx2.h"
#include "worker/model/tile_values.h"

namespace orch::worker::cpu::avx2 {
namespace {

constexpr std::size_t kPrefetchBytes = 4096;

// What one block makes: t = (d * dx) * float(p) - (dmin * dx) * float(n).
template <int Halves, int Rows>
struct Integers {
  __m256i p[Halves][Rows];
  __m256i n[Halves][Rows];
};

// The activation rows at one block, and which 8 of the tile's 16 rows come first.
template <int Rows>
struct BlockInput {
  const std::int8_t* xq[Rows];
  const std::int16_t* sum16[Rows];
  const std::int16_t* sum32[Rows];
  float dx[Rows];
  int first_half = 0;
};

template <int Rows>
ORCH_AVX2_INLINE BlockInput<Rows> block_input(const MatmulArgs& args, int half, std::uint32_t row,
                                              std::uint32_t block) {
  const WideRows& wide = args.in.wide;
  BlockInput<Rows> in;
  in.first_half = half;
  for (int n = 0; n < Rows; ++n) {
    const std::size_t at = (row + static_cast<std::uint32_t>(n)) * std::size_t{args.in.cols} + block * kWideTileCols;
    in.xq[n] = wide.xq + at;
    in.sum16[n] = wide.sum16 + at / 16;
    in.sum32[n] = wide.sum32 + at / 32;
    in.dx[n] = wide.dx[at / kWideTileCols];
  }
  return in;
}

ORCH_AVX2_INLINE __m256i broadcast_pair(const std::int16_t* at) {
  std::int32_t pair;
  std::memcpy(&pair, at, sizeof(pair));
  return _mm256_set1_epi32(pair);
}

ORCH_AVX2_INLINE __m128i load_half(const std::uint8_t* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

// (s0, s1) of each row to (s0, s0) and (s1, s1).
ORCH_AVX2_INLINE __m256i first_of_pairs(__m256i pairs) {
  const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13));
  return _mm256_shuffle_epi8(pairs, order);
}
ORCH_AVX2_INLINE __m256i second_of_pairs(__m256i pairs) {
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15));
  return _mm256_shuffle_epi8(pairs, order);
}

// Q4_K and Q5_K, one chunk of 64 elements: sub-blocks 2c (low nibbles) and 2c + 1. 4-bit: eight words of a sub-block
// are at most 30,480 in 16 bits; 5-bit: four words 31,496.
template <bool FiveBits, int Halves, int Rows>
ORCH_AVX2_INLINE void add_chunk(const std::uint8_t* tile, int c, const BlockInput<Rows>& in,
                                Integers<Halves, Rows>& out) {
  constexpr int kWordsPerSum = FiveBits ? 4 : 8;
  constexpr std::uint32_t kScales = kWideNibbles + (FiveBits ? kFifthBits : 0);
  const __m256i mask = _mm256_set1_epi8(0x0F);
  const __m256i fifth = _mm256_set1_epi8(0x10);
  __m256i low_sum[Halves][Rows];
  __m256i high_sum[Halves][Rows];
  for (int j = 0; j < 8; ++j) {
    __m256i low[Halves];
    __m256i high[Halves];
    for (int h = 0; h < Halves; ++h) {
      const __m256i packed = load_lanes(tile + c * 512 + j * 64 + (in.first_half + h) * 32);
      low[h] = _mm256_and_si256(packed, mask);
      high[h] = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
      if constexpr (FiveBits) {  // bits 2c and 2c + 1 of a byte, brought to bit 4
        const __m256i bits = load_lanes(tile + kWideNibbles + j * 64 + (in.first_half + h) * 32);
        const __m256i even = c < 2 ? _mm256_slli_epi16(bits, 4 - 2 * c) : _mm256_srli_epi16(bits, 2 * c - 4);
        const __m256i odd = c < 2 ? _mm256_slli_epi16(bits, 3 - 2 * c) : _mm256_srli_epi16(bits, 2 * c - 3);
        low[h] = _mm256_or_si256(low[h], _mm256_and_si256(even, fifth));
        high[h] = _mm256_or_si256(high[h], _mm256_and_si256(odd, fifth));
      }
    }
    for (int n = 0; n < Rows; ++n) {
      const __m256i x_low = broadcast_quad(in.xq[n] + 64 * c + 4 * j);
      const __m256i x_high = broadcast_quad(in.xq[n] + 64 * c + 32 + 4 * j);
      for (int h = 0; h < Halves; ++h) {
        const __m256i a = _mm256_maddubs_epi16(low[h], x_low);
        const __m256i b = _mm256_maddubs_epi16(high[h], x_high);
        low_sum[h][n] = j % kWordsPerSum == 0 ? a : _mm256_add_epi16(low_sum[h][n], a);
        high_sum[h][n] = j % kWordsPerSum == 0 ? b : _mm256_add_epi16(high_sum[h][n], b);
      }
    }
    if (j % kWordsPerSum != kWordsPerSum - 1) continue;
    for (int h = 0; h < Halves; ++h) {
      const __m256i scales = _mm256_cvtepu8_epi16(load_half(tile + kScales + c * 32 + (in.first_half + h) * 16));
      const __m256i even = first_of_pairs(scales);
      const __m256i odd = second_of_pairs(scales);
      for (int n = 0; n < Rows; ++n) {
        const __m256i p =
            _mm256_add_epi32(_mm256_madd_epi16(low_sum[h][n], even), _mm256_madd_epi16(high_sum[h][n], odd));
        out.p[h][n] = _mm256_add_epi32(out.p[h][n], p);
      }
    }
  }
  for (int h = 0; h < Halves; ++h) {
    const __m256i minima =
        _mm256_cvtepu8_epi16(load_half(tile + kScales + kSubScales + c * 32 + (in.first_half + h) * 16));
    for (int n = 0; n < Rows; ++n) {
      const __m256i product = _mm256_madd_epi16(minima, broadcast_pair(in.sum32[n] + 2 * c));
      out.n[h][n] = _mm256_add_epi32(out.n[h][n], product);
    }
  }
}

// Q6_K, side `side` of the block (128 elements each), part `part`: 32 elements in low nibbles, 32 (64 further on) in
// high ones. Quants are taken as 0..63: two words are at most 32,004 in 16 bits; the offset of 32 comes off P at the
// end, through `n`.
template <int Halves, int Rows>
ORCH_AVX2_INLINE void add_six_bits(const std::uint8_t* tile, int side, int part, const BlockInput<Rows>& in,
                                   Integers<Halves, Rows>& out) {
  const __m256i mask = _mm256_set1_epi8(0x0F);
  const __m256i upper = _mm256_set1_epi8(0x30);
  const std::uint8_t* scales = tile + kWideNibbles + kUpperBits;
  const int first = 128 * side + 32 * part;  // element of the first low nibble
  __m256i low_scales[Halves];
  __m256i high_scales[Halves];
  for (int h = 0; h < Halves; ++h) {
    low_scales[h] = _mm256_cvtepi8_epi16(load_half(scales + (4 * side + part) * 32 + (in.first_half + h) * 16));
    high_scales[h] = _mm256_cvtepi8_epi16(load_half(scales + (4 * side + part + 2) * 32 + (in.first_half + h) * 16));
    for (int n = 0; n < Rows; ++n) {
      const __m256i a = _mm256_madd_epi16(low_scales[h], broadcast_pair(in.sum16[n] + first / 16));
      const __m256i b = _mm256_madd_epi16(high_scales[h], broadcast_pair(in.sum16[n] + first / 16 + 4));
      out.n[h][n] = _mm256_add_epi32(out.n[h][n], _mm256_add_epi32(a, b));
    }
  }
  for (int j = 0; j < 8; j += 2) {
    for (int h = 0; h < Halves; ++h) {
      __m256i low[2];
      __m256i high[2];
      for (int i = 0; i < 2; ++i) {
        const __m256i packed = load_lanes(tile + (2 * side + part) * 512 + (j + i) * 64 + (in.first_half + h) * 32);
        const __m256i bits = load_lanes(tile + kWideNibbles + side * 512 + (j + i) * 64 + (in.first_half + h) * 32);
        const __m256i of_low = part == 0 ? _mm256_slli_epi16(bits, 4) : _mm256_slli_epi16(bits, 2);
        const __m256i of_high = part == 0 ? bits : _mm256_srli_epi16(bits, 2);
        low[i] = _mm256_or_si256(_mm256_and_si256(packed, mask), _mm256_and_si256(of_low, upper));
        high[i] =
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(packed, 4), mask), _mm256_and_si256(of_high, upper));
      }
      const __m256i low_scale = j < 4 ? first_of_pairs(low_scales[h]) : second_of_pairs(low_scales[h]);
      const __m256i high_scale = j < 4 ? first_of_pairs(high_scales[h]) : second_of_pairs(high_scales[h]);
      for (int n = 0; n < Rows; ++n) {
        const std::int8_t* xq = in.xq[n] + first + 4 * j;
        const __m256i a = _mm256_add_epi16(_mm256_maddubs_epi16(low[0], broadcast_quad(xq)),
                                           _mm256_maddubs_epi16(low[1], broadcast_quad(xq + 4)));
        const __m256i b = _mm256_add_epi16(_mm256_maddubs_epi16(high[0], broadcast_quad(xq + 64)),
                                           _mm256_maddubs_epi16(high[1], broadcast_quad(xq + 68)));
        const __m256i p = _mm256_add_epi32(_mm256_madd_epi16(a, low_scale), _mm256_madd_epi16(b, high_scale));
        out.p[h][n] = _mm256_add_epi32(out.p[h][n], p);
      }
    }
  }
}

template <TensorType Type, int Halves, int Rows>
ORCH_AVX2_INLINE void block_integers(const std::uint8_t* tile, const BlockInput<Rows>& in,
                                     Integers<Halves, Rows>& out) {
  for (int h = 0; h < Halves; ++h) {
    for (int n = 0; n < Rows; ++n) out.p[h][n] = out.n[h][n] = _mm256_setzero_si256();
  }
  if constexpr (Type == TensorType::q6_k) {
    for (int side = 0; side < 2; ++side) {
      for (int part = 0; part < 2; ++part) add_six_bits<Halves, Rows>(tile, side, part, in, out);
    }
    for (int h = 0; h < Halves; ++h) {
      for (int n = 0; n < Rows; ++n) {
        out.p[h][n] = _mm256_sub_epi32(out.p[h][n], _mm256_slli_epi32(out.n[h][n], 5));
      }
    }
  } else {
    for (int c = 0; c < 4; ++c) add_chunk<Type == TensorType::q5_k, Halves, Rows>(tile, c, in, out);
  }
}

// A split is one block: acc = +0 + t, and tot + acc is tot + t, since tot is never -0.
template <TensorType Type>
struct WideKernel {
  template <int Halves, int Rows>
  static void multiply(const MatmulArgs& args, std::uint32_t group, int half, std::uint32_t row) {
    const QTensor& w = *args.weight;
    __m256 tot[Halves][Rows];
    clear(tot);
    for (std::uint32_t block = 0; block < w.blocks(); ++block) {
      const std::size_t index = w.tile_index(group, block);
      const std::uint8_t* tile = w.quants.as<std::uint8_t>() + index * tile_bytes(Type);
      const std::uint16_t* scale = w.scales.as<std::uint16_t>() + index * tile_scales(Type) + half * 8;
      if (row == 0 && half == 0) {  // later rows find the strip in the first-level cache
        for (std::size_t line = 0; line < tile_bytes(Type); line += 64) {
          _mm_prefetch(tile + kPrefetchBytes + line, _MM_HINT_T0);
        }
      }
      const BlockInput<Rows> in = block_input<Rows>(args, half, row, block);
      Integers<Halves, Rows> integers;
      block_integers<Type, Halves, Rows>(tile, in, integers);
      for (int h = 0; h < Halves; ++h) {
        const __m256 d = widen_lanes(scale + 8 * h);
        for (int n = 0; n < Rows; ++n) {
          const __m256 dx = _mm256_set1_ps(in.dx[n]);
          __m256 t = _mm256_mul_ps(_mm256_mul_ps(d, dx), _mm256_cvtepi32_ps(integers.p[h][n]));
          if constexpr (has_minimum(Type)) {
            const __m256 minimum = widen_lanes(scale + kTileRows + 8 * h);
            const __m256 n_term = _mm256_mul_ps(_mm256_mul_ps(minimum, dx), _mm256_cvtepi32_ps(integers.n[h][n]));
            t = _mm256_sub_ps(t, n_term);
          }
          tot[h][n] = _mm256_add_ps(tot[h][n], t);
        }
      }
    }
    finish_all(args, group, half, row, tot);
  }
};

}  // namespace

void matmul_wide(const MatmulArgs& args) {
  switch (args.weight->type) {
    case TensorType::q4_k:
      return multiply_rows<WideKernel<TensorType::q4_k>>(args);
    case TensorType::q5_k:
      return multiply_rows<WideKernel<TensorType::q5_k>>(args);
    default:
      return multiply_rows<WideKernel<TensorType::q6_k>>(args);
  }
}

}  // namespace orch::worker::cpu::avx2
