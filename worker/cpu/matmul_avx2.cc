// Matrix times activation rows with weight rows in lanes: a register holds 8 rows of a tile, so every lane keeps its
// own sums in the contract's order and nothing is added across lanes. Kernel shape: Halves x 8 weight rows by Rows
// activation rows; the activations are broadcast four k at a time.
#include "worker/cpu/avx2_matmul.h"
#include "worker/cpu/kernels_avx2.h"

namespace orch::worker::cpu::avx2 {
namespace {

constexpr std::size_t kPrefetchBytes = 2048;
constexpr std::uint32_t kSplitBlocks = numerics::kSplitElements / kTileCols;

// Integer dots of one block for 8 * Halves weight rows and Rows activation rows. `tile` is at the first half used.
// 4-bit: VPMADDUBSW pairs are at most 2 * 15 * 127 = 3,810 and eight of them 30,480, so 16-bit sums never saturate.
// 5-bit: pairs are at most 7,874 and four of them 31,496, so sums are widened after two words.
template <TensorType Type, int Halves, int Rows>
ORCH_AVX2_INLINE void dot_nibbles(const std::uint8_t* tile, const std::int8_t* const* xq, __m256i (*idot)[Rows]) {
  constexpr bool kFiveBits = Type == TensorType::q5_0 || Type == TensorType::q5_1;
  constexpr int kWordsPerSum = kFiveBits ? 2 : 4;
  const __m256i mask = _mm256_set1_epi8(0x0F);
  const __m256i fifth = _mm256_set1_epi8(0x10);
  __m256i sums[Halves][Rows];
  for (int j = 0; j < 4; ++j) {
    __m256i low[Halves];
    __m256i high[Halves];
    for (int h = 0; h < Halves; ++h) {
      const __m256i packed = load_lanes(tile + j * 64 + h * 32);
      low[h] = _mm256_and_si256(packed, mask);
      high[h] = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
      if constexpr (kFiveBits) {  // bit j of a byte is for the low nibble, bit j + 4 for the high one
        const __m256i bits = load_lanes(tile + 256 + h * 32);
        low[h] = _mm256_or_si256(low[h], _mm256_and_si256(_mm256_slli_epi16(bits, 4 - j), fifth));
        high[h] = _mm256_or_si256(high[h], _mm256_and_si256(_mm256_srli_epi16(bits, j), fifth));
      }
    }
    for (int n = 0; n < Rows; ++n) {
      const __m256i x_low = broadcast_quad(xq[n] + 4 * j);
      const __m256i x_high = broadcast_quad(xq[n] + 16 + 4 * j);
      for (int h = 0; h < Halves; ++h) {
        const __m256i pair =
            _mm256_add_epi16(_mm256_maddubs_epi16(low[h], x_low), _mm256_maddubs_epi16(high[h], x_high));
        sums[h][n] = j % kWordsPerSum == 0 ? pair : _mm256_add_epi16(sums[h][n], pair);
        if (j % kWordsPerSum != kWordsPerSum - 1) continue;
        const __m256i wide = _mm256_madd_epi16(sums[h][n], _mm256_set1_epi16(1));
        idot[h][n] = j < kWordsPerSum ? wide : _mm256_add_epi32(idot[h][n], wide);
      }
    }
  }
}

// 8-bit: |w| times x with w's sign (|-128| = 128 is right as unsigned); a pair is at most 2 * 128 * 127 = 32,512.
template <int Halves, int Rows>
ORCH_AVX2_INLINE void dot_bytes(const std::uint8_t* tile, const std::int8_t* const* xq, __m256i (*idot)[Rows]) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int j = 0; j < 8; ++j) {
    __m256i w[Halves];
    __m256i magnitude[Halves];
    for (int h = 0; h < Halves; ++h) {
      w[h] = load_lanes(tile + j * 64 + h * 32);
      magnitude[h] = _mm256_abs_epi8(w[h]);
    }
    for (int n = 0; n < Rows; ++n) {
      const __m256i x = broadcast_quad(xq[n] + 4 * j);
      for (int h = 0; h < Halves; ++h) {
        const __m256i quad = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude[h], _mm256_sign_epi8(x, w[h])), ones);
        idot[h][n] = j == 0 ? quad : _mm256_add_epi32(idot[h][n], quad);
      }
    }
  }
}

// acc += t for one block (plan.h, matmul).
template <TensorType Type, int Halves, int Rows>
ORCH_AVX2_INLINE void add_block(const QTensor& w, std::size_t tile_index, int half, const ActivationRows& in,
                                const std::size_t* first, std::uint32_t block, bool from_memory, __m256 (*acc)[Rows]) {
  const std::uint8_t* tile = w.quants.as<std::uint8_t>() + tile_index * tile_bytes(Type) + half * 32;
  const std::uint16_t* scale = w.scales.as<std::uint16_t>() + tile_index * tile_scales(Type) + half * 8;
  const std::int8_t* xq[Rows];
  for (int n = 0; n < Rows; ++n) xq[n] = in.xq + (first[n] + block) * kTileCols;
  if (from_memory) {
    // Ask for a tile ahead of the loads, across page borders where the hardware prefetcher stops. Later rows find the
    // strip in the first-level cache.
    for (std::size_t line = 0; line < tile_bytes(Type); line += 64)
      _mm_prefetch(tile + kPrefetchBytes + line, _MM_HINT_T0);
    _mm_prefetch(scale + kPrefetchBytes / tile_bytes(Type) * tile_scales(Type), _MM_HINT_T0);
  }
  __m256i idot[Halves][Rows];
  if constexpr (Type == TensorType::q8_0) {
    dot_bytes<Halves, Rows>(tile, xq, idot);
  } else {
    dot_nibbles<Type, Halves, Rows>(tile, xq, idot);
  }
  for (int h = 0; h < Halves; ++h) {
    const __m256 d = widen_lanes(scale + 8 * h);
    for (int n = 0; n < Rows; ++n) {
      const std::size_t g = first[n] + block;
      __m256i dot = idot[h][n];
      if constexpr (Type == TensorType::q4_0) dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(8 * in.sum[g]));
      if constexpr (Type == TensorType::q5_0) dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(16 * in.sum[g]));
      __m256 t = _mm256_mul_ps(_mm256_mul_ps(d, _mm256_set1_ps(in.dx[g])), _mm256_cvtepi32_ps(dot));
      if constexpr (has_minimum(Type)) {
        t = _mm256_add_ps(t, _mm256_mul_ps(widen_lanes(scale + kTileRows + 8 * h), _mm256_set1_ps(in.s[g])));
      }
      acc[h][n] = _mm256_add_ps(acc[h][n], t);
    }
  }
}

template <TensorType Type>
struct NarrowKernel {
  template <int Halves, int Rows>
  static void multiply(const MatmulArgs& args, std::uint32_t group, int half, std::uint32_t row) {
    const QTensor& w = *args.weight;
    const std::uint32_t blocks = w.blocks();
    std::size_t first[Rows];
    for (int n = 0; n < Rows; ++n) first[n] = (row + static_cast<std::uint32_t>(n)) * args.in.groups();
    __m256 tot[Halves][Rows];
    clear(tot);
    for (std::uint32_t begin = 0; begin < blocks; begin += kSplitBlocks) {
      const std::uint32_t end = blocks - begin < kSplitBlocks ? blocks : begin + kSplitBlocks;
      __m256 acc[Halves][Rows];
      clear(acc);
      for (std::uint32_t block = begin; block < end; ++block) {
        add_block<Type, Halves, Rows>(w, w.tile_index(group, block), half, args.in, first, block, row == 0 && half == 0,
                                      acc);
      }
      for (int h = 0; h < Halves; ++h) {
        for (int n = 0; n < Rows; ++n) tot[h][n] = _mm256_add_ps(tot[h][n], acc[h][n]);
      }
    }
    finish_all(args, group, half, row, tot);
  }
};

template <TensorType Type>
ORCH_AVX2_INLINE __m256 float_lanes(const std::uint8_t* tile, std::uint32_t k, std::uint32_t half) {
  const std::size_t index = std::size_t{k} * kTileRows + half * 8;
  if constexpr (Type == TensorType::f32) return _mm256_load_ps(reinterpret_cast<const float*>(tile) + index);
  const std::uint16_t* bits = reinterpret_cast<const std::uint16_t*>(tile) + index;
  if constexpr (Type == TensorType::f16) return widen_lanes(bits);
  const __m256i dwords = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bits)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(dwords, 16));
}

template <TensorType Type>
void matmul_float(const MatmulArgs& args) {
  const QTensor& w = *args.weight;
  for (std::uint32_t group = args.group_begin; group < args.group_end; ++group) {
    for (std::uint32_t row = 0; row < args.rows; ++row) {
      const float* x = args.in.x + std::size_t{row} * args.in.cols;
      __m256 tot[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
      for (std::uint32_t begin = 0; begin < w.blocks(); begin += kSplitBlocks) {
        __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        for (std::uint32_t block = begin; block < w.blocks() && block < begin + kSplitBlocks; ++block) {
          const std::uint8_t* tile = w.quants.as<std::uint8_t>() + w.tile_index(group, block) * tile_bytes(Type);
          for (std::uint32_t k = 0; k < kTileCols; ++k) {
            const __m256 xk = _mm256_set1_ps(x[std::size_t{block} * kTileCols + k]);
            for (std::uint32_t h = 0; h < 2; ++h) {
              acc[h] = _mm256_add_ps(acc[h], _mm256_mul_ps(float_lanes<Type>(tile, k, h), xk));
            }
          }
        }
        for (std::uint32_t h = 0; h < 2; ++h) tot[h] = _mm256_add_ps(tot[h], acc[h]);
      }
      for (std::uint32_t h = 0; h < 2; ++h) finish(args, row, std::size_t{group} * kTileRows + h * 8, tot[h]);
    }
  }
}

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
      return matmul_float<TensorType::bf16>(args);
    case TensorType::f16:
      return matmul_float<TensorType::f16>(args);
    case TensorType::f32:
      return matmul_float<TensorType::f32>(args);
  }
}

}  // namespace orch::worker::cpu::avx2
