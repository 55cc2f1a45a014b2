// Single elements of a repacked tile (q_tensor.h), for the reference kernels and the embedding. Pure.
#pragma once

#include <cstdint>

#include "worker/core/numerics.h"
#include "worker/model/q_tensor.h"

namespace orch::worker {

inline constexpr std::uint32_t kWideNibbles = 2048;  // bytes of the nibbles of a 256-column tile
inline constexpr std::uint32_t kFifthBits = 512;     // q5_k
inline constexpr std::uint32_t kUpperBits = 1024;    // q6_k
inline constexpr std::uint32_t kSubScales = 128;     // q4_k and q5_k; their sub-minima take as much

namespace tile_detail {

inline std::uint32_t at(const std::uint8_t* bytes, std::uint32_t j, std::uint32_t lane, std::uint32_t i) {
  return bytes[(j * kTileRows + lane) * 4 + i];
}

inline std::uint32_t nibble(std::uint32_t byte, bool high) { return high ? byte >> 4 : byte & 0x0FU; }

inline std::uint32_t half_block_nibble(const std::uint8_t* tile, std::uint32_t lane, std::uint32_t k) {
  return nibble(at(tile, k % 16 / 4, lane, k % 4), k >= 16);
}

// q4_k and q5_k: 64 elements share 32 bytes.
inline std::uint32_t chunk_nibble(const std::uint8_t* tile, std::uint32_t lane, std::uint32_t k) {
  return nibble(at(tile + k / 64 * 512, k % 32 / 4, lane, k % 4), k % 64 >= 32);
}

inline std::uint32_t six_bits(const std::uint8_t* tile, std::uint32_t lane, std::uint32_t k) {
  const std::uint32_t half = k / 128;
  const std::uint32_t part = k % 128 / 32;
  const std::uint32_t j = k % 32 / 4;
  const std::uint32_t low = nibble(at(tile + (half * 2 + part % 2) * 512, j, lane, k % 4), part >= 2);
  const std::uint32_t upper = at(tile + kWideNibbles + half * 512, j, lane, k % 4) >> (2 * part);
  return low | ((upper & 3U) << 4);
}

// Sub-scales and sub-minima stand in pairs: [p][row][2].
inline std::uint8_t paired(const std::uint8_t* bytes, std::uint32_t lane, std::uint32_t index) {
  return bytes[(index / 2 * kTileRows + lane) * 2 + index % 2];
}

}  // namespace tile_detail

// The integer that the block's scale multiplies; the fixed offset of q4_0, q5_0 and q6_k is taken off. Quantised types.
inline std::int32_t quant_at(TensorType type, const std::uint8_t* tile, std::uint32_t lane, std::uint32_t k) {
  using namespace tile_detail;  // NOLINT: the decoders of this file
  switch (type) {
    case TensorType::q8_0:
      return static_cast<std::int8_t>(at(tile, k / 4, lane, k % 4));
    case TensorType::q4_0:
      return static_cast<std::int32_t>(half_block_nibble(tile, lane, k)) - 8;
    case TensorType::q4_1:
      return static_cast<std::int32_t>(half_block_nibble(tile, lane, k));
    case TensorType::q5_0:
    case TensorType::q5_1: {
      const std::uint32_t fifth = (at(tile + 256, 0, lane, k % 4) >> (k / 4)) & 1U;
      const std::int32_t q = static_cast<std::int32_t>(half_block_nibble(tile, lane, k) | (fifth << 4));
      return type == TensorType::q5_0 ? q - 16 : q;
    }
    case TensorType::q4_k:
      return static_cast<std::int32_t>(chunk_nibble(tile, lane, k));
    case TensorType::q5_k: {
      const std::uint32_t fifth = (at(tile + kWideNibbles, k % 32 / 4, lane, k % 4) >> (k / 32)) & 1U;
      return static_cast<std::int32_t>(chunk_nibble(tile, lane, k) | (fifth << 4));
    }
    case TensorType::q6_k:
      return static_cast<std::int32_t>(six_bits(tile, lane, k)) - 32;
    case TensorType::f32:
    case TensorType::f16:
    case TensorType::bf16:
      break;
  }
  return 0;
}

// Of element k of a K-quant.
inline std::int32_t sub_scale(TensorType type, const std::uint8_t* tile, std::uint32_t lane, std::uint32_t k) {
  using tile_detail::paired;
  if (type == TensorType::q4_k) return paired(tile + kWideNibbles, lane, k / 32);
  if (type == TensorType::q5_k) return paired(tile + kWideNibbles + kFifthBits, lane, k / 32);
  return static_cast<std::int8_t>(paired(tile + kWideNibbles + kUpperBits, lane, k / 16));
}

// Of element k of q4_k or q5_k.
inline std::int32_t sub_minimum(TensorType type, const std::uint8_t* tile, std::uint32_t lane, std::uint32_t k) {
  const std::uint32_t before = kWideNibbles + (type == TensorType::q5_k ? kFifthBits : 0) + kSubScales;
  return tile_detail::paired(tile + before, lane, k / 32);
}

// Of a float tile, widened.
inline float float_at(TensorType type, const std::uint8_t* tile, std::uint32_t lane, std::uint32_t k) {
  const std::size_t index = std::size_t{k} * kTileRows + lane;
  if (type == TensorType::f32) return reinterpret_cast<const float*>(tile)[index];
  const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(tile)[index];
  if (type == TensorType::bf16) return numerics::float_of(static_cast<std::uint32_t>(bits) << 16);
  return numerics::f16_to_f32(bits);
}

}  // namespace orch::worker
