// Matrix times activation rows with VPDPBUSD. Its weights are unsigned: what a type's quants are above or below that is
// taken off where the sum starts, as a multiple of the activations' sum, exact in 32 bits. The largest sum is Q8_0's:
// 32 * 255 * 127 < 2^21.
#include "worker/cpu/avx512vnni_matmul.h"
#include "worker/cpu/kernels_avx512vnni.h"

namespace orch::worker::cpu::avx512vnni {
namespace {

constexpr std::size_t kPrefetchBytes = 2048;
constexpr std::uint32_t kSplitBlocks = numerics::kSplitElements / kTileCols;

// How far the bytes that the kernel multiplies lie above the quants.
constexpr std::int32_t offset_of(TensorType type) {
  switch (type) {
    case TensorType::q8_0:
      return 128;
    case TensorType::q5_0:
      return 16;
    case TensorType::q4_0:
      return 8;
    default:
      return 0;
  }
}

// Low and high nibbles of columns 4j.. and 16 + 4j.. on; the fifth bit of a low nibble is bit j of its byte, that of a
// high one bit j + 4.
template <bool FiveBits, int Rows>
ORCH_AVX512_INLINE void dot_nibbles(const std::uint8_t* tile, const std::int8_t* const* xq, __m512i (&idot)[Rows]) {
  const __m512i mask = _mm512_set1_epi8(0x0F);
  const __m512i fifth = _mm512_set1_epi8(0x10);
  for (int j = 0; j < 4; ++j) {
    const __m512i packed = load_quads(tile + j * 64);
    __m512i low = _mm512_and_si512(packed, mask);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
    if constexpr (FiveBits) {
      const __m512i bits = load_quads(tile + 256);
      low = _mm512_or_si512(low, _mm512_and_si512(_mm512_slli_epi16(bits, static_cast<unsigned>(4 - j)), fifth));
      high = _mm512_or_si512(high, _mm512_and_si512(_mm512_srli_epi16(bits, static_cast<unsigned>(j)), fifth));
    }
    for (int n = 0; n < Rows; ++n) {
      idot[n] = add_products(idot[n], low, broadcast_quad(xq[n] + 4 * j));
      idot[n] = add_products(idot[n], high, broadcast_quad(xq[n] + 16 + 4 * j));
    }
  }
}

// w XOR 0x80 is w + 128 as an unsigned byte, w = -128 included.
template <int Rows>
ORCH_AVX512_INLINE void dot_bytes(const std::uint8_t* tile, const std::int8_t* const* xq, __m512i (&idot)[Rows]) {
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int j = 0; j < 8; ++j) {
    const __m512i w = _mm512_xor_si512(load_quads(tile + j * 64), sign);
    for (int n = 0; n < Rows; ++n) idot[n] = add_products(idot[n], w, broadcast_quad(xq[n] + 4 * j));
  }
}

// acc += t for one block (plan.h, matmul).
template <TensorType Type, int Rows>
ORCH_AVX512_INLINE void add_block(const QTensor& w, std::size_t tile_index, const ActivationRows& in,
                                  const std::size_t* first, std::uint32_t block, bool from_memory,
                                  __m512 (&acc)[Rows]) {
  const std::uint8_t* tile = w.quants.as<std::uint8_t>() + tile_index * tile_bytes(Type);
  const std::uint16_t* scale = w.scales.as<std::uint16_t>() + tile_index * tile_scales(Type);
  if (from_memory) {
    ask_for(tile + kPrefetchBytes, tile_bytes(Type));
    _mm_prefetch(scale + kPrefetchBytes / tile_bytes(Type) * tile_scales(Type), _MM_HINT_T0);
  }
  const std::int8_t* xq[Rows];
  __m512i idot[Rows];
  for (int n = 0; n < Rows; ++n) {
    xq[n] = in.xq + (first[n] + block) * kTileCols;
    idot[n] = _mm512_setzero_si512();
    if constexpr (offset_of(Type) != 0) idot[n] = _mm512_set1_epi32(-offset_of(Type) * in.sum[first[n] + block]);
  }
  if constexpr (Type == TensorType::q8_0) {
    dot_bytes<Rows>(tile, xq, idot);
  } else {
    dot_nibbles<Type == TensorType::q5_0 || Type == TensorType::q5_1, Rows>(tile, xq, idot);
  }
  const __m512 d = widen_lanes(scale);
  for (int n = 0; n < Rows; ++n) {
    const std::size_t g = first[n] + block;
    __m512 t = _mm512_mul_ps(_mm512_mul_ps(d, _mm512_set1_ps(in.dx[g])), _mm512_cvtepi32_ps(idot[n]));
    if constexpr (has_minimum(Type)) {
      t = _mm512_add_ps(t, _mm512_mul_ps(widen_lanes(scale + kTileRows), _mm512_set1_ps(in.s[g])));
    }
    acc[n] = _mm512_add_ps(acc[n], t);
  }
}

template <TensorType Type>
struct NarrowKernel {
  template <int Rows>
  static void multiply(const MatmulArgs& args, std::uint32_t group, std::uint32_t row) {
    const QTensor& w = *args.weight;
    const std::uint32_t blocks = w.blocks();
    std::size_t first[Rows];
    __m512 tot[Rows];
    for (int n = 0; n < Rows; ++n) {
      first[n] = (row + static_cast<std::uint32_t>(n)) * args.in.groups();
      tot[n] = _mm512_setzero_ps();
    }
    for (std::uint32_t begin = 0; begin < blocks; begin += kSplitBlocks) {
      const std::uint32_t end = blocks - begin < kSplitBlocks ? blocks : begin + kSplitBlocks;
      __m512 acc[Rows];
      for (int n = 0; n < Rows; ++n) acc[n] = _mm512_setzero_ps();
      for (std::uint32_t block = begin; block < end; ++block) {
        add_block<Type, Rows>(w, w.tile_index(group, block), args.in, first, block, row == 0, acc);
      }
      for (int n = 0; n < Rows; ++n) tot[n] = _mm512_add_ps(tot[n], acc[n]);
    }
    finish_all(args, group, row, tot);
  }
};

}  // namespace

void matmul(const MatmulArgs& args) {
  switch (args.weight->type) {
    case TensorType::q4_0:
      return multiply_rows<NarrowKernel<TensorType::q4_0>>(args);
    case TensorType::q4_1:
      return multiply_rows<NarrowKernel<TensorType::q4_1>>(args);
    case TensorType::q8_0:
      return multiply_rows<NarrowKernel<TensorType::q8_0>>(args);
    case TensorType::q5_0:
      return multiply_rows<NarrowKernel<TensorType::q5_0>>(args);
    case TensorType::q5_1:
      return multiply_rows<NarrowKernel<TensorType::q5_1>>(args);
    case TensorType::q4_k:
    case TensorType::q5_k:
    case TensorType::q6_k:
      return matmul_wide(args);
    case TensorType::bf16:
    case TensorType::f16:
    case TensorType::f32:
      return;
  }
}

}  // namespace orch::worker::cpu::avx512vnni
