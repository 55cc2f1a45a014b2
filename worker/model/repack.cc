#include "worker/model/repack.h"

#include <cstring>

#include "common/base/check.h"
#include "worker/core/numerics.h"

namespace orch::worker {
namespace {

std::uint16_t load_u16(const std::uint8_t* at) {
  std::uint16_t value = 0;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// One 32-element block of one row into its tile. File layouts: Q4_0 {d, 16 nibble bytes}, Q4_1 {d, m, 16}, Q8_0 {d, 32
// int8}.
void place_block(QTensor& tensor, std::uint32_t row, std::uint32_t block, const std::uint8_t* source) {
  const std::uint32_t group = row / kTileRows;
  const std::uint32_t lane = row % kTileRows;
  const std::size_t index = tensor.tile_index(group, block);
  std::uint8_t* tile = tensor.quants.as<std::uint8_t>() + index * tile_bytes(tensor.type);
  std::uint16_t* scale = tensor.scales.as<std::uint16_t>() + index * tile_scales(tensor.type);
  scale[lane] = load_u16(source);
  source += 2;
  if (tensor.type == TensorType::q4_1) {
    scale[kTileRows + lane] = load_u16(source);
    source += 2;
  }
  const std::uint32_t quads = tensor.type == TensorType::q8_0 ? 8 : 4;
  for (std::uint32_t j = 0; j < quads; ++j) std::memcpy(tile + (j * kTileRows + lane) * 4, source + j * 4, 4);
}

void repack_quantised(QTensor& tensor, std::span<const std::byte> bytes) {
  const std::size_t block_bytes = tensor.type == TensorType::q8_0 ? 34 : (tensor.type == TensorType::q4_1 ? 20 : 18);
  const std::uint8_t* source = reinterpret_cast<const std::uint8_t*>(bytes.data());
  ORCH_CHECK(bytes.size() == std::size_t{tensor.rows} * tensor.blocks() * block_bytes);
  for (std::uint32_t row = 0; row < tensor.rows; ++row) {
    for (std::uint32_t block = 0; block < tensor.blocks(); ++block) {
      place_block(tensor, row, block, source);
      source += block_bytes;
    }
  }
}

float load_f32(const std::byte* at) {
  float value = 0;
  std::memcpy(&value, at, sizeof(value));
  return numerics::load_weight(value);
}

void repack_floats(QTensor& tensor, std::span<const std::byte> bytes) {
  const std::size_t each = tensor.type == TensorType::f32 ? 4 : 2;
  ORCH_CHECK(bytes.size() == std::size_t{tensor.rows} * tensor.cols * each);
  for (std::uint32_t row = 0; row < tensor.rows; ++row) {
    for (std::uint32_t col = 0; col < tensor.cols; ++col) {
      const std::byte* source = bytes.data() + (std::size_t{row} * tensor.cols + col) * each;
      const std::size_t index = tensor.tile_index(row / kTileRows, col / kTileCols) * (kTileRows * kTileCols) +
                                (col % kTileCols) * kTileRows + row % kTileRows;
      if (tensor.type == TensorType::f32) {
        tensor.quants.as<float>()[index] = load_f32(source);
      } else {
        std::memcpy(tensor.quants.as<std::uint16_t>() + index, source, 2);
      }
    }
  }
}

}  // namespace

const char* to_string(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return "F32";
    case TensorType::f16:
      return "F16";
    case TensorType::q4_0:
      return "Q4_0";
    case TensorType::q4_1:
      return "Q4_1";
    case TensorType::q8_0:
      return "Q8_0";
  }
  return "?";
}

std::optional<TensorType> tensor_type_of(std::uint32_t ggml_type) {
  switch (ggml_type) {
    case 0:
      return TensorType::f32;
    case 1:
      return TensorType::f16;
    case 2:
      return TensorType::q4_0;
    case 3:
      return TensorType::q4_1;
    case 8:
      return TensorType::q8_0;
    default:
      return std::nullopt;
  }
}

std::size_t repacked_bytes(TensorType type, TensorLayout layout, std::uint64_t rows, std::uint64_t cols) {
  if (layout == TensorLayout::plain) return rows * cols * 4;
  const std::uint64_t tiles = (rows + kTileRows - 1) / kTileRows * ((cols + kTileCols - 1) / kTileCols);
  return tiles * (tile_bytes(type) + tile_scales(type) * 2);
}

void repack(QTensor& tensor, std::span<const std::byte> bytes, Arena* arena) {
  const auto allocate = [arena](std::size_t size) { return arena != nullptr ? arena->take(size) : AlignedBytes(size); };
  if (tensor.layout == TensorLayout::plain) {
    ORCH_CHECK(tensor.type == TensorType::f32 && bytes.size() == std::size_t{tensor.rows} * tensor.cols * 4);
    tensor.quants = allocate(bytes.size());
    for (std::size_t i = 0; i < bytes.size() / 4; ++i) tensor.quants.as<float>()[i] = load_f32(bytes.data() + i * 4);
    return;
  }
  const std::size_t tiles = std::size_t{tensor.row_groups()} * tensor.blocks();
  tensor.quants = allocate(tiles * tile_bytes(tensor.type));
  tensor.scales = allocate(tiles * tile_scales(tensor.type) * sizeof(std::uint16_t));
  if (is_quantised(tensor.type)) {
    repack_quantised(tensor, bytes);
  } else {
    repack_floats(tensor, bytes);
  }
}

void dequantise_row(const QTensor& tensor, std::uint32_t row, float* out) {
  const std::uint32_t group = row / kTileRows;
  const std::uint32_t lane = row % kTileRows;
  for (std::uint32_t col = 0; col < tensor.cols; ++col) {
    const std::uint32_t block = col / kTileCols;
    const std::uint32_t k = col % kTileCols;
    const std::uint8_t* tile = tensor.tile(group, block);
    const std::uint16_t* scale = tensor.tile_scale(group, block);
    float value = 0;
    switch (tensor.type) {
      case TensorType::f32:
        value = reinterpret_cast<const float*>(tile)[k * kTileRows + lane];
        break;
      case TensorType::f16:
        value = numerics::f16_to_f32(reinterpret_cast<const std::uint16_t*>(tile)[k * kTileRows + lane]);
        break;
      case TensorType::q8_0: {
        const std::int8_t q = static_cast<std::int8_t>(tile[((k / 4) * kTileRows + lane) * 4 + k % 4]);
        value = numerics::f16_to_f32(scale[lane]) * static_cast<float>(q);
        break;
      }
      case TensorType::q4_0:
      case TensorType::q4_1: {
        const std::uint32_t low = k % 16;
        const std::uint8_t byte = tile[((low / 4) * kTileRows + lane) * 4 + low % 4];
        const std::int32_t q = k < 16 ? (byte & 0x0F) : (byte >> 4);
        const float d = numerics::f16_to_f32(scale[lane]);
        value = tensor.type == TensorType::q4_0
                    ? d * static_cast<float>(q - 8)
                    : d * static_cast<float>(q) + numerics::f16_to_f32(scale[kTileRows + lane]);
        break;
      }
    }
    out[col] = numerics::store(value);
  }
}

}  // namespace orch::worker
