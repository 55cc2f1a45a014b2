#include "worker/vulkan/weight_store.h"

#include <cstring>

namespace orch::worker::vulkan {
namespace {

// Moves the words of one row of a tile together: the file's tile has [j][row], a texel has words 4h .. 4h + 3 of one
// row.
void interleave_words(const std::uint32_t* tile, std::uint32_t words_per_row, std::uint32_t* out) {
  for (std::uint32_t h = 0; h < words_per_row / 4; ++h) {
    for (std::uint32_t row = 0; row < kTileRows; ++row) {
      for (std::uint32_t j = 0; j < 4; ++j) {
        out[(h * kTileRows + row) * 4 + j] = tile[(4 * h + j) * kTileRows + row];
      }
    }
  }
}

// K-quants: nibbles and upper bits as above; sub-scales and sub-minima, pairs of bytes [p][row][2], become bytes in the
// order of their sub-blocks: the last texel of the row.
void interleave_wide(const std::uint8_t* tile, std::uint32_t words_per_row, std::uint32_t* out) {
  constexpr std::uint32_t kSubBytes = 16;  // of a row: 8 scales and 8 minima, or 16 scales
  const std::uint32_t words = words_per_row - kSubBytes / 4;
  interleave_words(reinterpret_cast<const std::uint32_t*>(tile), words, out);
  const std::uint8_t* pairs = tile + std::size_t{words} * kTileRows * 4;
  for (std::uint32_t row = 0; row < kTileRows; ++row) {
    for (std::uint32_t w = 0; w < kSubBytes / 4; ++w) {
      const std::uint8_t* even = pairs + (std::size_t{2} * w * kTileRows + row) * 2;
      const std::uint8_t* odd = even + std::size_t{2} * kTileRows;
      const std::uint32_t word =
          even[0] | std::uint32_t{even[1]} << 8U | std::uint32_t{odd[0]} << 16U | std::uint32_t{odd[1]} << 24U;
      out[(std::size_t{words / 4} * kTileRows + row) * 4 + w] = word;
    }
  }
}

// As above for tiles [k][row] of 16 bits: two k make a word.
void interleave_halves(const std::uint16_t* tile, std::uint32_t* out) {
  for (std::uint32_t k = 0; k < kTileCols; k += 2) {
    for (std::uint32_t row = 0; row < kTileRows; ++row) {
      const std::uint32_t word = tile[k * kTileRows + row] | static_cast<std::uint32_t>(tile[(k + 1) * kTileRows + row])
                                                                 << 16U;
      out[((k / 8) * kTileRows + row) * 4 + (k % 8) / 2] = word;
    }
  }
}

// Of a tile.
std::size_t fifth_bit_bytes(TensorType type) {
  return type == TensorType::q5_0 || type == TensorType::q5_1 ? std::size_t{kTileRows} * 4 : 0;
}

}  // namespace

std::vector<std::uint32_t> device_quants(const QTensor& tensor) {
  // The fifth bits of q5_0 and q5_1 stand behind the nibbles; they go beside the scales.
  const std::size_t tile_words = (tile_bytes(tensor.type) - fifth_bit_bytes(tensor.type)) / 4;
  std::vector<std::uint32_t> words(std::size_t{tensor.row_groups()} * tensor.blocks() * tile_words);
  std::uint32_t* out = words.data();
  for (std::uint32_t group = 0; group < tensor.row_groups(); ++group) {
    for (std::uint32_t block = 0; block < tensor.blocks(); ++block, out += tile_words) {
      const std::uint8_t* tile = tensor.tile(group, block);
      if (tensor.type == TensorType::f16 || tensor.type == TensorType::bf16) {
        interleave_halves(reinterpret_cast<const std::uint16_t*>(tile), out);
      } else if (is_wide(tensor.type)) {
        interleave_wide(tile, static_cast<std::uint32_t>(tile_words) / kTileRows, out);
      } else {
        interleave_words(reinterpret_cast<const std::uint32_t*>(tile),
                         static_cast<std::uint32_t>(tile_words) / kTileRows, out);
      }
    }
  }
  return words;
}

std::vector<std::uint32_t> device_scales(const QTensor& tensor) {
  if (!is_quantised(tensor.type)) return {};
  const std::size_t fifth = fifth_bit_bytes(tensor.type);
  std::vector<std::uint32_t> words;
  words.reserve(std::size_t{tensor.row_groups()} * tensor.blocks() * kTileRows * (fifth != 0 ? 2 : 1));
  for (std::uint32_t group = 0; group < tensor.row_groups(); ++group) {
    for (std::uint32_t block = 0; block < tensor.blocks(); ++block) {
      const std::uint16_t* scale = tensor.tile_scale(group, block);
      const std::uint8_t* bits = tensor.tile(group, block) + tile_bytes(tensor.type) - fifth;
      for (std::uint32_t row = 0; row < kTileRows; ++row) {
        const std::uint32_t minimum = has_minimum(tensor.type) ? scale[kTileRows + row] : 0U;
        words.push_back(scale[row] | minimum << 16U);
        if (fifth != 0) words.push_back(reinterpret_cast<const std::uint32_t*>(bits)[row]);
      }
    }
  }
  return words;
}

std::size_t device_tile_bytes(TensorType type) {
  // Scales are words, and the fifth bits stand among them: they only move.
  return tile_bytes(type) + (is_quantised(type) ? std::size_t{kTileRows} * 4 : 0);
}

Result<std::unique_ptr<DeviceBuffer>, VulkanError> WeightStore::upload(const char* name,
                                                                       std::span<const std::byte> bytes) {
  auto buffer = device_.make_buffer(MemoryUse::device, name, bytes.size());
  if (!buffer.ok()) return Err{buffer.error()};
  ORCH_TRY(written, device_.write(*buffer.value(), 0, bytes));
  static_cast<void>(written);
  bytes_ += bytes.size();
  return std::move(buffer).value();
}

bool WeightStore::can_join(const std::vector<TensorId>& ids) const {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const QTensor& tensor = weights_.tensors[ids[i]];
    if (tensor.type != weights_.tensors[ids[0]].type || tensor.cols != weights_.tensors[ids[0]].cols) return false;
    if (i + 1 < ids.size() && tensor.rows % kTileRows != 0) return false;
  }
  return true;
}

void WeightStore::release_host_copies() {
  for (QTensor& tensor : weights_.tensors) {
    tensor.quants = AlignedBytes();
    tensor.scales = AlignedBytes();
  }
}

Result<const DeviceMatrix*, VulkanError> WeightStore::matrix(const std::vector<TensorId>& ids) {
  ORCH_CHECK(!ids.empty() && can_join(ids));
  if (const auto found = matrices_.find(ids); found != matrices_.end()) return &found->second;
  DeviceMatrix matrix;
  matrix.type = tensor(ids[0]).type;
  matrix.blocks = tensor(ids[0]).blocks();
  std::vector<std::uint32_t> quants;
  std::vector<std::uint32_t> scales;
  for (const TensorId id : ids) {
    const std::vector<std::uint32_t> more_quants = device_quants(tensor(id));
    const std::vector<std::uint32_t> more_scales = device_scales(tensor(id));
    quants.insert(quants.end(), more_quants.begin(), more_quants.end());
    scales.insert(scales.end(), more_scales.begin(), more_scales.end());
    matrix.rows += tensor(id).rows;
  }
  auto quants_buffer = upload("a weight matrix", std::as_bytes(std::span(quants)));
  if (!quants_buffer.ok()) return Err{quants_buffer.error()};
  matrix.quants = std::move(quants_buffer).value();
  if (!scales.empty()) {
    auto scales_buffer = upload("the scales of a weight matrix", std::as_bytes(std::span(scales)));
    if (!scales_buffer.ok()) return Err{scales_buffer.error()};
    matrix.scales = std::move(scales_buffer).value();
  }
  return &matrices_.emplace(ids, std::move(matrix)).first->second;
}

Result<const DeviceBuffer*, VulkanError> WeightStore::vector(const std::vector<TensorId>& ids) {
  ORCH_CHECK(!ids.empty());
  if (const auto found = vectors_.find(ids); found != vectors_.end()) return found->second.get();
  std::vector<float> values;
  for (const TensorId id : ids) {
    const QTensor& plain = tensor(id);
    ORCH_CHECK(plain.layout == TensorLayout::plain && plain.type == TensorType::f32);
    values.insert(values.end(), plain.plain(), plain.plain() + std::size_t{plain.rows} * plain.cols);
  }
  auto buffer = upload("a vector of weights", std::as_bytes(std::span(values)));
  if (!buffer.ok()) return Err{buffer.error()};
  return vectors_.emplace(ids, std::move(buffer).value()).first->second.get();
}

}  // namespace orch::worker::vulkan
