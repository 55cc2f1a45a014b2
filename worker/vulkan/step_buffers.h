// The memory that steps work in: the host's step input, activation rows, quantised records, attention partials, logits,
// KV pages and RoPE tables.
//
// An activation row holds all f32 buffers of plan.h side by side (so that matrices with one input can write adjacent
// buffers in one dispatch); logits have rows of their own. KV: one buffer per layer, page after page; a page of a layer
// is K [kv_head][d / 8][32][8] then V [kv_head][32][d], f16. Threads: as KernelDevice. Owns the buffers; must not
// outlive the device.
#pragma once

#include <memory>
#include <vector>

#include "worker/model/model_config.h"
#include "worker/model/plan.h"
#include "worker/model/weights.h"
#include "worker/vulkan/device_buffer.h"
#include "worker/vulkan/kernel_device.h"
#include "worker/vulkan/step_sizes.h"

namespace orch::worker::vulkan {

class StepBuffers {
 public:
  static Result<std::unique_ptr<StepBuffers>, VulkanError> Create(KernelDevice& device, const ModelConfig& config,
                                                                  const Weights& weights, const StepShape& shape);

  // Words of an activation row and where a buffer begins in it; both multiples of 4. Not for Buffer::logits.
  std::uint32_t row_words() const { return sizes_.row_words; }
  std::uint32_t offset(Buffer buffer) const { return sizes_.offsets[static_cast<std::size_t>(buffer)]; }
  std::uint32_t joined_offset() const { return sizes_.joined_offset; }

  std::uint32_t rows_max() const { return sizes_.rows_max; }  // of one submission; a longer step takes several
  std::uint32_t splits_max() const { return sizes_.splits_max; }
  std::uint32_t pages() const { return pages_; }
  std::uint32_t byte_record_base() const { return sizes_.byte_record_base; }  // texels into records
  std::uint32_t wide_record_base() const { return sizes_.wide_record_base; }
  // Word of the activations, behind the rows: how many K and V values were beyond f16 so far.
  std::uint32_t saturated_word() const { return sizes_.saturated_word; }
  std::uint64_t page_layer_bytes() const { return page_layer_bytes_; }
  std::uint64_t kv_bytes() const { return kv_.size() * page_layer_bytes_ * pages_; }
  std::uint64_t scratch_bytes() const;

  DeviceBuffer& step() { return *step_; }
  DeviceBuffer& activations() { return *activations_; }
  DeviceBuffer& records() { return *records_; }
  DeviceBuffer& floats() { return *floats_; }  // unquantised matmul inputs, for float weights
  DeviceBuffer& partials() { return *partials_; }
  DeviceBuffer& logits() { return *logits_; }
  DeviceBuffer& rope(bool local) { return local ? *local_rope_ : *rope_; }  // local: of layers with a window
  DeviceBuffer& kv(std::uint32_t layer) { return *kv_[layer]; }

 private:
  StepBuffers() = default;
  Status<VulkanError> make(KernelDevice& device);
  Status<VulkanError> make_kv(KernelDevice& device, const ModelConfig& config);
  Result<std::unique_ptr<DeviceBuffer>, VulkanError> upload_rope(KernelDevice& device, const RopeTable& rope);

  StepSizes sizes_;
  std::uint32_t pages_ = 0;
  std::uint64_t page_layer_bytes_ = 0;
  std::unique_ptr<DeviceBuffer> step_;
  std::unique_ptr<DeviceBuffer> activations_;
  std::unique_ptr<DeviceBuffer> records_;
  std::unique_ptr<DeviceBuffer> floats_;
  std::unique_ptr<DeviceBuffer> partials_;
  std::unique_ptr<DeviceBuffer> logits_;
  std::unique_ptr<DeviceBuffer> rope_;
  std::unique_ptr<DeviceBuffer> local_rope_;  // null: no layer has a window
  std::vector<std::unique_ptr<DeviceBuffer>> kv_;
};

}  // namespace orch::worker::vulkan
