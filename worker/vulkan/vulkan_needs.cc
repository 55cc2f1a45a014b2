// The sizes that step_buffers.cc and weight_store.cc make, from the tensor list alone.
#include <algorithm>
#include <limits>

#include "worker/model/repack.h"
#include "worker/vulkan/step_sizes.h"
#include "worker/vulkan/vulkan_backend.h"
#include "worker/vulkan/weight_store.h"

namespace orch::worker {
namespace {

std::uint64_t rows_of(const GgufTensor& tensor) {
  std::uint64_t rows = 1;
  for (std::size_t i = 1; i < tensor.dims.size(); ++i) rows *= tensor.dims[i];
  return rows;
}

}  // namespace

std::uint64_t vulkan_weight_bytes(const GgufFile& file) {
  std::uint64_t sum = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    const auto type = tensor_type_of(tensor.type);
    if (!type) continue;
    const std::uint64_t rows = rows_of(tensor);
    if (tensor.dims.size() == 1) {
      sum += rows * tensor.dims[0] * sizeof(float);
      continue;
    }
    const std::uint64_t tiles =
        (rows + kTileRows - 1) / kTileRows * ((tensor.dims[0] + tile_cols(*type) - 1) / tile_cols(*type));
    sum += tiles * vulkan::device_tile_bytes(*type);
  }
  return sum;
}

std::uint64_t vulkan_scratch_bytes(const GgufFile& file, const ModelConfig& config, std::uint32_t context) {
  vulkan::StepShape shape{context, 0, 0, false};
  for (const GgufTensor& tensor : file.tensors()) {
    const auto type = tensor_type_of(tensor.type);
    if (!type || tensor.dims.size() == 1) continue;
    shape.columns_max = std::max(shape.columns_max, static_cast<std::uint32_t>(tensor.dims[0]));
    shape.wide_records = shape.wide_records || is_wide(*type);
  }
  return vulkan::step_sizes(config, shape, std::numeric_limits<std::uint64_t>::max()).total() + kVulkanStartBytes;
}

}  // namespace orch::worker
