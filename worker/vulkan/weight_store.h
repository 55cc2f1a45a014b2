// Weights on the device, in the texel layouts that the kernels read (worker/kernels/matmul_*.comp), made once per
// tensor or per run of tensors that one dispatch computes together. Threads: as KernelDevice. Owns the buffers; must
// not outlive the device.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "worker/model/plan.h"
#include "worker/model/weights.h"
#include "worker/vulkan/device_buffer.h"
#include "worker/vulkan/kernel_device.h"

namespace orch::worker::vulkan {

struct DeviceMatrix {
  TensorType type = TensorType::f32;
  std::uint32_t rows = 0;
  std::uint32_t blocks = 0;  // of 32 columns, of K-quants 256
  std::unique_ptr<DeviceBuffer> quants;
  std::unique_ptr<DeviceBuffer> scales;  // null for float types
};

class WeightStore {
 public:
  WeightStore(KernelDevice& device, Weights& weights) : device_(device), weights_(weights) {}
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  // The matrices of `ids` below one another: same type and columns, all but the last with rows a multiple of 16.
  Result<const DeviceMatrix*, VulkanError> matrix(const std::vector<TensorId>& ids);
  // Plain f32 vectors (norms, biases) one after the other.
  Result<const DeviceBuffer*, VulkanError> vector(const std::vector<TensorId>& ids);

  // Drops the model's own bytes; what was asked for so far stays available, more cannot be uploaded.
  void release_host_copies();

  bool can_join(const std::vector<TensorId>& ids) const;
  const QTensor& tensor(TensorId id) const { return weights_.tensors[id]; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  Result<std::unique_ptr<DeviceBuffer>, VulkanError> upload(const char* name, std::span<const std::byte> bytes);

  KernelDevice& device_;
  Weights& weights_;
  std::map<std::vector<TensorId>, DeviceMatrix> matrices_;
  std::map<std::vector<TensorId>, std::unique_ptr<DeviceBuffer>> vectors_;
  std::uint64_t bytes_ = 0;
};

// The texel layout of one tensor's quants or floats, and its scales as words; for tests too.
std::vector<std::uint32_t> device_quants(const QTensor& tensor);
std::vector<std::uint32_t> device_scales(const QTensor& tensor);
// Both, of one tile.
std::size_t device_tile_bytes(TensorType type);

}  // namespace orch::worker::vulkan
