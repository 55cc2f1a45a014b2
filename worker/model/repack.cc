#include "worker/model/repack.h"

#include <cstring>

#include "common/base/check.h"
#include "worker/core/numerics.h"
#include "worker/model/tile_values.h"

namespace orch::worker {
namespace {

std::uint16_t load_u16(const std::uint8_t* at) {
  std::uint16_t value = 0;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

// Where one row's block goes: its lane of the tile.
struct Target {
  std::uint8_t* tile = nullptr;
  std::uint16_t* scale = nullptr;
  std::uint32_t lane = 0;

  // `words` of four elements each, to [word][row].
  void place_words(std::uint32_t offset, const std::uint8_t* source, std::uint32_t words) const {
    for (std::uint32_t j = 0; j < words; ++j) {
      std::memcpy(tile + offset + (j * kTileRows + lane) * 4, source + j * 4, 4);
    }
  }
  void place_scale(const std::uint8_t* source) const { scale[lane] = load_u16(source); }
  void place_minimum(const std::uint8_t* source) const { scale[kTileRows + lane] = load_u16(source); }
  void place_paired(std::uint32_t offset, std::uint32_t index, std::uint8_t value) const {
    tile[offset + (index / 2 * kTileRows + lane) * 2 + index % 2] = value;
  }
};

// Q5_0 and Q5_1 keep bit k of a word for element k; the tile wants bit j of byte i for k = 4j + i.
void place_fifth_bits(const Target& to, const std::uint8_t* source) {
  for (std::uint32_t i = 0; i < 4; ++i) {
    std::uint32_t byte = 0;
    for (std::uint32_t j = 0; j < 8; ++j) {
      const std::uint32_t k = 4 * j + i;
      byte |= ((static_cast<std::uint32_t>(source[k / 8]) >> (k % 8)) & 1U) << j;
    }
    to.tile[256 + to.lane * 4 + i] = static_cast<std::uint8_t>(byte);
  }
}

// Eight pairs of six bits in twelve bytes: for j < 4 the low six bits of bytes j and j + 4; above, a nibble of byte
// j + 4 each, and the top two bits of bytes j - 4 and j.
void place_packed_scales(const Target& to, std::uint32_t offset, const std::uint8_t* packed) {
  for (std::uint32_t j = 0; j < 8; ++j) {
    const std::uint32_t a = packed[j];
    const std::uint32_t b = packed[j + 4];
    const std::uint32_t scale = j < 4 ? a & 63U : (b & 15U) | ((packed[j - 4] >> 6U) * 16U);
    const std::uint32_t minimum = j < 4 ? b & 63U : (b >> 4U) | ((a >> 6U) << 4U);
    to.place_paired(offset, j, static_cast<std::uint8_t>(scale));
    to.place_paired(offset + kSubScales, j, static_cast<std::uint8_t>(minimum));
  }
}

// One block of one row into its tile. File layouts: Q4_0 {d, 16 nibble bytes}, Q4_1 {d, m, 16}, Q5_0 {d, 4 bytes of
// fifth bits, 16}, Q5_1 {d, m, 4, 16}, Q8_0 {d, 32 int8}, Q4_K {d, dmin, 12 bytes of scales, 128}, Q5_K {d, dmin, 12,
// 32 bytes of fifth bits, 128}, Q6_K {128 nibble bytes, 64 bytes of upper bits, 16 int8 scales, d}.
void place_block(TensorType type, const Target& to, const std::uint8_t* source) {
  if (type == TensorType::q6_k) {
    to.place_words(0, source, 32);
    to.place_words(kWideNibbles, source + 128, 16);
    for (std::uint32_t g = 0; g < 16; ++g) to.place_paired(kWideNibbles + kUpperBits, g, source[192 + g]);
    return to.place_scale(source + 208);
  }
  to.place_scale(source);
  source += 2;
  if (has_minimum(type)) {
    to.place_minimum(source);
    source += 2;
  }
  if (type == TensorType::q4_k) {
    place_packed_scales(to, kWideNibbles, source);
    return to.place_words(0, source + 12, 32);
  }
  if (type == TensorType::q5_k) {
    place_packed_scales(to, kWideNibbles + kFifthBits, source);
    to.place_words(kWideNibbles, source + 12, 8);
    return to.place_words(0, source + 44, 32);
  }
  if (type == TensorType::q5_0 || type == TensorType::q5_1) {
    place_fifth_bits(to, source);
    source += 4;
  }
  to.place_words(0, source, type == TensorType::q8_0 ? 8 : 4);
}

std::size_t file_block_bytes(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return 4;
    case TensorType::f16:
    case TensorType::bf16:
      return 2;
    case TensorType::q4_0:
      return 18;
    case TensorType::q4_1:
      return 20;
    case TensorType::q5_0:
      return 22;
    case TensorType::q5_1:
      return 24;
    case TensorType::q8_0:
      return 34;
    case TensorType::q4_k:
      return 144;
    case TensorType::q5_k:
      return 176;
    case TensorType::q6_k:
      return 210;
  }
  return 0;
}

void fill_quantised(QTensor& tensor, std::span<const std::byte> bytes, std::uint32_t row_begin, std::uint32_t row_end) {
  const std::size_t block_bytes = file_block_bytes(tensor.type);
  ORCH_CHECK(bytes.size() == std::size_t{tensor.rows} * tensor.blocks() * block_bytes);
  const std::uint8_t* source = reinterpret_cast<const std::uint8_t*>(bytes.data());
  source += std::size_t{row_begin} * tensor.blocks() * block_bytes;
  for (std::uint32_t row = row_begin; row < row_end; ++row) {
    for (std::uint32_t block = 0; block < tensor.blocks(); ++block) {
      const std::size_t index = tensor.tile_index(row / kTileRows, block);
      Target to;
      to.tile = tensor.quants.as<std::uint8_t>() + index * tile_bytes(tensor.type);
      to.scale = tensor.scales.as<std::uint16_t>() + index * tile_scales(tensor.type);
      to.lane = row % kTileRows;
      place_block(tensor.type, to, source);
      source += block_bytes;
    }
  }
}

float load_f32(const std::byte* at) {
  float value = 0;
  std::memcpy(&value, at, sizeof(value));
  return numerics::load_weight(value);
}

// Under 2^-60 a BF16 weight loads as +0, as an F32 one does.
std::uint16_t load_bf16(std::uint16_t bits) {
  const float value = numerics::load_weight(numerics::float_of(static_cast<std::uint32_t>(bits) << 16));
  return static_cast<std::uint16_t>(numerics::bits_of(value) >> 16);
}

void fill_floats(QTensor& tensor, std::span<const std::byte> bytes, std::uint32_t row_begin, std::uint32_t row_end) {
  const std::size_t each = file_block_bytes(tensor.type);
  ORCH_CHECK(bytes.size() == std::size_t{tensor.rows} * tensor.cols * each);
  for (std::uint32_t row = row_begin; row < row_end; ++row) {
    for (std::uint32_t col = 0; col < tensor.cols; ++col) {
      const std::byte* source = bytes.data() + (std::size_t{row} * tensor.cols + col) * each;
      const std::size_t index = tensor.tile_index(row / kTileRows, col / kTileCols) * (kTileRows * kTileCols) +
                                (col % kTileCols) * kTileRows + row % kTileRows;
      if (tensor.type == TensorType::f32) {
        tensor.quants.as<float>()[index] = load_f32(source);
      } else {
        std::uint16_t& bits = tensor.quants.as<std::uint16_t>()[index];
        std::memcpy(&bits, source, 2);
        if (tensor.type == TensorType::bf16) bits = load_bf16(bits);
      }
    }
  }
}

}  // namespace

namespace {

struct TypeName {
  TensorType type;
  std::uint32_t ggml_id;
  const char* name;
};

// In the order of precision, as error messages list them.
constexpr TypeName kTypeNames[] = {
    {TensorType::f32, 0, "F32"},   {TensorType::f16, 1, "F16"},    {TensorType::bf16, 30, "BF16"},
    {TensorType::q8_0, 8, "Q8_0"}, {TensorType::q6_k, 14, "Q6_K"}, {TensorType::q5_k, 13, "Q5_K"},
    {TensorType::q5_1, 7, "Q5_1"}, {TensorType::q5_0, 6, "Q5_0"},  {TensorType::q4_k, 12, "Q4_K"},
    {TensorType::q4_1, 3, "Q4_1"}, {TensorType::q4_0, 2, "Q4_0"},
};

}  // namespace

const char* to_string(TensorType type) {
  for (const TypeName& entry : kTypeNames) {
    if (entry.type == type) return entry.name;
  }
  return "?";
}

std::optional<TensorType> tensor_type_of(std::uint32_t ggml_type) {
  for (const TypeName& entry : kTypeNames) {
    if (entry.ggml_id == ggml_type) return entry.type;
  }
  return std::nullopt;
}

std::string supported_tensor_types() {
  std::string out;
  for (const TypeName& entry : kTypeNames) out += (out.empty() ? "" : ", ") + std::string(entry.name);
  return out;
}

std::size_t repacked_bytes(TensorType type, TensorLayout layout, std::uint64_t rows, std::uint64_t cols) {
  if (layout == TensorLayout::plain) return rows * cols * 4;
  const std::uint64_t tiles = (rows + kTileRows - 1) / kTileRows * ((cols + tile_cols(type) - 1) / tile_cols(type));
  return tiles * (tile_bytes(type) + tile_scales(type) * 2);
}

void allocate_tiles(QTensor& tensor, Arena* arena) {
  const auto allocate = [arena](std::size_t size) { return arena != nullptr ? arena->take(size) : AlignedBytes(size); };
  if (tensor.layout == TensorLayout::plain) {
    tensor.quants = allocate(std::size_t{tensor.rows} * tensor.cols * sizeof(float));
    return;
  }
  const std::size_t tiles = std::size_t{tensor.row_groups()} * tensor.blocks();
  tensor.quants = allocate(tiles * tile_bytes(tensor.type));
  tensor.scales = allocate(tiles * tile_scales(tensor.type) * sizeof(std::uint16_t));
}

void fill_tiles(QTensor& tensor, std::span<const std::byte> bytes, std::uint32_t row_begin, std::uint32_t row_end) {
  ORCH_CHECK(row_begin <= row_end && row_end <= tensor.rows);
  if (tensor.layout == TensorLayout::plain) {
    ORCH_CHECK(tensor.type == TensorType::f32 && bytes.size() == std::size_t{tensor.rows} * tensor.cols * 4);
    for (std::size_t i = std::size_t{row_begin} * tensor.cols; i < std::size_t{row_end} * tensor.cols; ++i) {
      tensor.quants.as<float>()[i] = load_f32(bytes.data() + i * 4);
    }
    return;
  }
  if (is_quantised(tensor.type)) {
    fill_quantised(tensor, bytes, row_begin, row_end);
  } else {
    fill_floats(tensor, bytes, row_begin, row_end);
  }
}

void repack(QTensor& tensor, std::span<const std::byte> bytes, Arena* arena) {
  allocate_tiles(tensor, arena);
  fill_tiles(tensor, bytes, 0, tensor.rows);
}

namespace {

float dequantise(const QTensor& tensor, const std::uint8_t* tile, const std::uint16_t* scale, std::uint32_t lane,
                 std::uint32_t k) {
  const TensorType type = tensor.type;
  if (!is_quantised(type)) return float_at(type, tile, lane, k);
  const float d = numerics::f16_to_f32(scale[lane]);
  const std::int32_t q = quant_at(type, tile, lane, k);
  if (!is_wide(type)) {
    const float value = d * static_cast<float>(q);
    return has_minimum(type) ? value + numerics::f16_to_f32(scale[kTileRows + lane]) : value;
  }
  const float value = d * static_cast<float>(sub_scale(type, tile, lane, k) * q);
  if (!has_minimum(type)) return value;
  return value - numerics::f16_to_f32(scale[kTileRows + lane]) * static_cast<float>(sub_minimum(type, tile, lane, k));
}

}  // namespace

void dequantise_row(const QTensor& tensor, std::uint32_t row, float* out) {
  const std::uint32_t group = row / kTileRows;
  const std::uint32_t wide = tile_cols(tensor.type);
  for (std::uint32_t col = 0; col < tensor.cols; ++col) {
    const std::uint32_t block = col / wide;
    out[col] = numerics::store(
        dequantise(tensor, tensor.tile(group, block), tensor.tile_scale(group, block), row % kTileRows, col % wide));
  }
}

}  // namespace orch::worker
