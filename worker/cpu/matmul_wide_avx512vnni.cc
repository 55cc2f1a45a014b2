// K-quants times activation rows with VPDPBUSD: a sub-block's dot in 32 bits, times its sub-scale, into P; VPDPWSSD
// makes N from pairs of sub-minima and sums of xq. Exact in 32 bits: a dot of Q5_K is at most 32 * 31 * 127 < 2^17, one
// of Q6_K 16 * 63 * 127 < 2^17.
#include "worker/cpu/avx512vnni_matmul.h"
#include "worker/cpu/kernels_avx512vnni.h"
#include "worker/model/tile_values.h"

namespace orch::worker::cpu::avx512vnni {
namespace {

constexpr std::size_t kPrefetchBytes = 4096;

// One block of the activation rows, and what comes of it: t = (d * dx) * float(p) - (dmin * dx) * float(n).
template <int Rows>
struct Block {
  const std::int8_t* xq[Rows];
  const std::int16_t* sum16[Rows];
  const std::int16_t* sum32[Rows];
  float dx[Rows];
  __m512i p[Rows];
  __m512i n[Rows];
};

template <int Rows>
ORCH_AVX512_INLINE void open(const MatmulArgs& args, std::uint32_t row, std::uint32_t block, Block<Rows>& out) {
  const WideRows& wide = args.in.wide;
  for (int n = 0; n < Rows; ++n) {
    const std::size_t at = (row + static_cast<std::uint32_t>(n)) * std::size_t{args.in.cols} + block * kWideTileCols;
    out.xq[n] = wide.xq + at;
    out.sum16[n] = wide.sum16 + at / 16;
    out.sum32[n] = wide.sum32 + at / 32;
    out.dx[n] = wide.dx[at / kWideTileCols];
    out.p[n] = out.n[n] = _mm512_setzero_si512();
  }
}

ORCH_AVX512_INLINE __m256i load_pairs(const std::uint8_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

// p += dot * scale per lane.
ORCH_AVX512_INLINE __m512i add_scaled(__m512i p, __m512i dot, __m512i scale) {
  return _mm512_add_epi32(p, _mm512_mullo_epi32(dot, scale));
}

// Q4_K and Q5_K, one chunk of 64 elements: sub-blocks 2c (low nibbles) and 2c + 1.
template <bool FiveBits, int Rows>
ORCH_AVX512_INLINE void add_chunk(const std::uint8_t* tile, int c, Block<Rows>& of) {
  constexpr std::uint32_t kScales = kWideNibbles + (FiveBits ? kFifthBits : 0);
  const __m512i mask = _mm512_set1_epi8(0x0F);
  const __m512i fifth = _mm512_set1_epi8(0x10);
  __m512i low_dot[Rows];
  __m512i high_dot[Rows];
  for (int n = 0; n < Rows; ++n) low_dot[n] = high_dot[n] = _mm512_setzero_si512();
  for (int j = 0; j < 8; ++j) {
    const __m512i packed = load_quads(tile + c * 512 + j * 64);
    __m512i low = _mm512_and_si512(packed, mask);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
    if constexpr (FiveBits) {  // bits 2c and 2c + 1 of a byte, brought to bit 4
      const __m512i bits = load_quads(tile + kWideNibbles + j * 64);
      const __m512i even = c < 2 ? _mm512_slli_epi16(bits, static_cast<unsigned>(4 - 2 * c))
                                 : _mm512_srli_epi16(bits, static_cast<unsigned>(2 * c - 4));
      const __m512i odd = c < 2 ? _mm512_slli_epi16(bits, static_cast<unsigned>(3 - 2 * c))
                                : _mm512_srli_epi16(bits, static_cast<unsigned>(2 * c - 3));
      low = _mm512_or_si512(low, _mm512_and_si512(even, fifth));
      high = _mm512_or_si512(high, _mm512_and_si512(odd, fifth));
    }
    for (int n = 0; n < Rows; ++n) {
      low_dot[n] = add_products(low_dot[n], low, broadcast_quad(of.xq[n] + 64 * c + 4 * j));
      high_dot[n] = add_products(high_dot[n], high, broadcast_quad(of.xq[n] + 64 * c + 32 + 4 * j));
    }
  }
  const __m512i scales = _mm512_cvtepu8_epi16(load_pairs(tile + kScales + c * 32));
  const __m512i minima = _mm512_cvtepu8_epi16(load_pairs(tile + kScales + kSubScales + c * 32));
  const __m512i even = _mm512_and_si512(scales, _mm512_set1_epi32(0xFFFF));
  const __m512i odd = _mm512_srli_epi32(scales, 16);
  for (int n = 0; n < Rows; ++n) {
    of.p[n] = add_scaled(add_scaled(of.p[n], low_dot[n], even), high_dot[n], odd);
    of.n[n] = _mm512_dpwssd_epi32(of.n[n], minima, broadcast_pair(of.sum32[n] + 2 * c));
  }
}

// Q6_K, side `side` of the block (128 elements each), part `part`, half `half` of it: 16 elements in low nibbles, 16
// (64 further on) in high ones, each with a sub-scale. Quants are taken as 0..63; the sums start where the 32 are taken
// off.
template <int Rows>
ORCH_AVX512_INLINE void add_six_bits(const std::uint8_t* tile, int side, int part, int half, Block<Rows>& of) {
  const __m512i mask = _mm512_set1_epi8(0x0F);
  const __m512i upper = _mm512_set1_epi8(0x30);
  const int first = 128 * side + 32 * part + 16 * half;  // element of the first low nibble
  __m512i low_dot[Rows];
  __m512i high_dot[Rows];
  for (int n = 0; n < Rows; ++n) {
    low_dot[n] = _mm512_set1_epi32(-32 * of.sum16[n][first / 16]);
    high_dot[n] = _mm512_set1_epi32(-32 * of.sum16[n][first / 16 + 4]);
  }
  for (int j = 4 * half; j < 4 * half + 4; ++j) {
    const __m512i packed = load_quads(tile + (2 * side + part) * 512 + j * 64);
    const __m512i bits = load_quads(tile + kWideNibbles + side * 512 + j * 64);
    const __m512i of_low = part == 0 ? _mm512_slli_epi16(bits, 4) : _mm512_slli_epi16(bits, 2);
    const __m512i of_high = part == 0 ? bits : _mm512_srli_epi16(bits, 2);
    const __m512i low = _mm512_or_si512(_mm512_and_si512(packed, mask), _mm512_and_si512(of_low, upper));
    const __m512i high =
        _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(packed, 4), mask), _mm512_and_si512(of_high, upper));
    for (int n = 0; n < Rows; ++n) {
      const std::int8_t* xq = of.xq[n] + first + 4 * (j - 4 * half);
      low_dot[n] = add_products(low_dot[n], low, broadcast_quad(xq));
      high_dot[n] = add_products(high_dot[n], high, broadcast_quad(xq + 64));
    }
  }
  // Pairs of signed sub-scales: [pair][row][2].
  const std::uint8_t* scales = tile + kWideNibbles + kUpperBits;
  const __m512i low_pairs = _mm512_cvtepi8_epi16(load_pairs(scales + (4 * side + part) * 32));
  const __m512i high_pairs = _mm512_cvtepi8_epi16(load_pairs(scales + (4 * side + part + 2) * 32));
  const __m512i low_scale = _mm512_srai_epi32(half == 0 ? _mm512_slli_epi32(low_pairs, 16) : low_pairs, 16);
  const __m512i high_scale = _mm512_srai_epi32(half == 0 ? _mm512_slli_epi32(high_pairs, 16) : high_pairs, 16);
  for (int n = 0; n < Rows; ++n) {
    of.p[n] = add_scaled(add_scaled(of.p[n], low_dot[n], low_scale), high_dot[n], high_scale);
  }
}

template <TensorType Type, int Rows>
ORCH_AVX512_INLINE void add_integers(const std::uint8_t* tile, Block<Rows>& of) {
  if constexpr (Type == TensorType::q6_k) {
    for (int side = 0; side < 2; ++side) {
      for (int part = 0; part < 2; ++part) {
        for (int half = 0; half < 2; ++half) add_six_bits<Rows>(tile, side, part, half, of);
      }
    }
  } else {
    for (int c = 0; c < 4; ++c) add_chunk<Type == TensorType::q5_k, Rows>(tile, c, of);
  }
}

// A split is one block: acc = +0 + t, and tot + acc is tot + t, since tot is never -0.
template <TensorType Type>
struct WideKernel {
  template <int Rows>
  static void multiply(const MatmulArgs& args, std::uint32_t group, std::uint32_t row) {
    const QTensor& w = *args.weight;
    __m512 tot[Rows];
    for (int n = 0; n < Rows; ++n) tot[n] = _mm512_setzero_ps();
    for (std::uint32_t block = 0; block < w.blocks(); ++block) {
      const std::size_t index = w.tile_index(group, block);
      const std::uint8_t* tile = w.quants.as<std::uint8_t>() + index * tile_bytes(Type);
      const std::uint16_t* scale = w.scales.as<std::uint16_t>() + index * tile_scales(Type);
      if (row == 0) ask_for(tile + kPrefetchBytes, tile_bytes(Type));
      Block<Rows> of;
      open<Rows>(args, row, block, of);
      add_integers<Type, Rows>(tile, of);
      const __m512 d = widen_lanes(scale);
      for (int n = 0; n < Rows; ++n) {
        const __m512 dx = _mm512_set1_ps(of.dx[n]);
        __m512 t = _mm512_mul_ps(_mm512_mul_ps(d, dx), _mm512_cvtepi32_ps(of.p[n]));
        if constexpr (has_minimum(Type)) {
          const __m512 minimum = _mm512_mul_ps(widen_lanes(scale + kTileRows), dx);
          t = _mm512_sub_ps(t, _mm512_mul_ps(minimum, _mm512_cvtepi32_ps(of.n[n])));
        }
        tot[n] = _mm512_add_ps(tot[n], t);
      }
    }
    finish_all(args, group, row, tot);
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

}  // namespace orch::worker::cpu::avx512vnni
