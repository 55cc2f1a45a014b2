// A weight tensor as every backend reads it (ENGINE-RULES interface 3): repacked once at load, never converted again.
//
// Layout `tiled` (all matrices). The row-major matrix [rows][cols] is cut into row groups of 16 and blocks of 32
// columns (k). Rows are padded to a multiple of 16 with zeros. Tiles are stored row group by row group, blocks
// ascending:
//   tile(g, b) = g * blocks + b, blocks = cols / 32.
//   q4_0, q4_1: 256 bytes a tile: byte [j 0..3][row 0..15][i 0..3] holds element k = 4j + i of that row in its low
//   nibble and
//               k = 16 + 4j + i in its high nibble, as stored in the file (0..15). So a 32-bit word [j][row] is four
//               consecutive k of one row.
//   q5_0, q5_1: 320 bytes a tile: nibbles as above, then the fifth bits: bit j of byte [row 0..15][i 0..3] belongs to
//               element k = 4j + i.
//   q8_0:       512 bytes a tile: int8 [j 0..7][row 0..15][i 0..3], element k = 4j + i.
//   f16, bf16, f32: [k 0..31][row 0..15], 2, 2 or 4 bytes each (1,024 or 2,048 bytes a tile); cols padded to 32 with
//               zeros.
// K-quants have tiles of 256 columns, one per block of the file (blocks = cols / 256):
//   q4_k:       2,304 bytes a tile: nibbles [c 0..3][j 0..7][row][i 0..3], element k = 64c + 4j + i in the low nibble
//               and k + 32 in the high one; then sub-scales u8 [p 0..3][row][2], of elements 32 (2p + i) ..; then
//               sub-minima, as the sub-scales.
//   q5_k:       2,816 bytes a tile: nibbles of q4_k; then the fifth bits: bit b of byte [j 0..7][row][i] belongs to
//               element k = 32b + 4j + i; then sub-scales and sub-minima of q4_k.
//   q6_k:       3,328 bytes a tile: nibbles [h 0..1][p 0..1][j 0..7][row][i], element k = 128h + 32p + 4j + i in the
//   low
//               nibble and k + 64 in the high one; then the upper two bits [h][j][row][i], bits 2b, 2b + 1 of element
//               128h + 32b + 4j + i; then sub-scales int8 [p 0..7][row][2], of elements 16 (2p + i) .. .
// `scales` (quantised types only), f16 bit patterns, per tile in the same order:
//   q4_0, q5_0, q8_0, q6_k:   d[row 0..15]                                           (32 bytes a tile)
//   q4_1, q5_1, q4_k, q5_k:   d[row 0..15], then m[row 0..15] or dmin[row 0..15]     (64 bytes a tile)
// Layout `plain`: f32 [rows][cols] (norm weights, biases); values under 2^-60 are +0.
//
// A tied head and the embedding are one QTensor. Units: rows, cols in elements.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "worker/model/aligned_bytes.h"

namespace orch::worker {

enum class TensorType : std::uint8_t { f32, f16, q4_0, q4_1, q8_0, q5_0, q5_1, q4_k, q5_k, q6_k, bf16 };
inline constexpr std::array<TensorType, 11> kTensorTypes = {
    TensorType::f32,  TensorType::f16,  TensorType::bf16, TensorType::q4_0, TensorType::q4_1, TensorType::q5_0,
    TensorType::q5_1, TensorType::q8_0, TensorType::q4_k, TensorType::q5_k, TensorType::q6_k};
enum class TensorLayout : std::uint8_t { plain, tiled };

inline constexpr std::uint32_t kTileRows = 16;
inline constexpr std::uint32_t kTileCols = 32;
inline constexpr std::uint32_t kWideTileCols = 256;

const char* to_string(TensorType type);

constexpr bool is_wide(TensorType type) {
  return type == TensorType::q4_k || type == TensorType::q5_k || type == TensorType::q6_k;
}

constexpr bool is_quantised(TensorType type) {
  return type != TensorType::f32 && type != TensorType::f16 && type != TensorType::bf16;
}

// A block has an offset besides its scale: m or dmin.
constexpr bool has_minimum(TensorType type) {
  return type == TensorType::q4_1 || type == TensorType::q5_1 || type == TensorType::q4_k || type == TensorType::q5_k;
}

constexpr std::uint32_t tile_cols(TensorType type) { return is_wide(type) ? kWideTileCols : kTileCols; }

constexpr std::size_t tile_bytes(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return 2048;
    case TensorType::f16:
    case TensorType::bf16:
      return 1024;
    case TensorType::q8_0:
      return 512;
    case TensorType::q4_0:
    case TensorType::q4_1:
      return 256;
    case TensorType::q5_0:
    case TensorType::q5_1:
      return 320;
    case TensorType::q4_k:
      return 2304;
    case TensorType::q5_k:
      return 2816;
    case TensorType::q6_k:
      return 3328;
  }
  return 0;
}

// f16 values per tile in `scales`.
constexpr std::size_t tile_scales(TensorType type) {
  if (!is_quantised(type)) return 0;
  return has_minimum(type) ? 2 * kTileRows : kTileRows;
}

struct QTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;
  TensorLayout layout = TensorLayout::plain;
  AlignedBytes quants;  // or the floats
  AlignedBytes scales;  // std::uint16_t

  std::uint32_t row_groups() const { return (rows + kTileRows - 1) / kTileRows; }
  std::uint32_t blocks() const { return (cols + tile_cols(type) - 1) / tile_cols(type); }
  std::size_t tile_index(std::uint32_t group, std::uint32_t block) const {
    return static_cast<std::size_t>(group) * blocks() + block;
  }
  const std::uint8_t* tile(std::uint32_t group, std::uint32_t block) const {
    return quants.as<std::uint8_t>() + tile_index(group, block) * tile_bytes(type);
  }
  const std::uint16_t* tile_scale(std::uint32_t group, std::uint32_t block) const {
    return scales.as<std::uint16_t>() + tile_index(group, block) * tile_scales(type);
  }
  const float* plain() const { return quants.as<float>(); }
  std::size_t byte_size() const { return quants.size() + scales.size(); }
};

}  // namespace orch::worker
