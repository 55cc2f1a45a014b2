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
//   q8_0:       512 bytes a tile: int8 [j 0..7][row 0..15][i 0..3], element k = 4j + i.
//   f16, f32:   [k 0..31][row 0..15], 2 or 4 bytes each (1,024 or 2,048 bytes a tile); cols padded to 32 with zeros.
// `scales` (quantised types only), f16 bit patterns, per tile in the same order:
//   q4_0, q8_0: d[row 0..15]                  (32 bytes a tile)
//   q4_1:       d[row 0..15], m[row 0..15]    (64 bytes a tile)
// Layout `plain`: f32 [rows][cols] (norm weights, biases); values under 2^-60 are +0.
//
// A tied head and the embedding are one QTensor. Units: rows, cols in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "worker/model/aligned_bytes.h"

namespace orch::worker {

enum class TensorType : std::uint8_t { f32, f16, q4_0, q4_1, q8_0 };
enum class TensorLayout : std::uint8_t { plain, tiled };

inline constexpr std::uint32_t kTileRows = 16;
inline constexpr std::uint32_t kTileCols = 32;

const char* to_string(TensorType type);

constexpr std::size_t tile_bytes(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return 2048;
    case TensorType::f16:
      return 1024;
    case TensorType::q8_0:
      return 512;
    case TensorType::q4_0:
    case TensorType::q4_1:
      return 256;
  }
  return 0;
}

// f16 values per tile in `scales`.
constexpr std::size_t tile_scales(TensorType type) {
  switch (type) {
    case TensorType::f32:
    case TensorType::f16:
      return 0;
    case TensorType::q4_0:
    case TensorType::q8_0:
      return 16;
    case TensorType::q4_1:
      return 32;
  }
  return 0;
}

constexpr bool is_quantised(TensorType type) { return type != TensorType::f32 && type != TensorType::f16; }

struct QTensor {
  std::string name;
  TensorType type = TensorType::f32;
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;
  TensorLayout layout = TensorLayout::plain;
  AlignedBytes quants;  // or the floats
  AlignedBytes scales;  // std::uint16_t

  std::uint32_t row_groups() const { return (rows + kTileRows - 1) / kTileRows; }
  std::uint32_t blocks() const { return (cols + kTileCols - 1) / kTileCols; }
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
