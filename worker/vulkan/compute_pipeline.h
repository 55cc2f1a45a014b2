// One kernel with its specialisation constants. All arguments are push constants (addresses and sizes, at most 128 bytes), so
// the layout has no descriptor sets. Specialisation constant i of the span has constant_id i; id 0 is the workgroup's width.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/device.h"
#include "worker/vulkan/pipeline_cache.h"

namespace orch::worker::vulkan {

inline constexpr std::uint32_t kPushBytesMax = 128;

class ComputePipeline {
 public:
  static Result<std::unique_ptr<ComputePipeline>, VulkanError> Create(Device& device, PipelineCache& cache,
                                                                      std::span<const std::uint32_t> spirv,
                                                                      std::span<const std::uint32_t> constants);
  ~ComputePipeline();
  ComputePipeline(const ComputePipeline&) = delete;
  ComputePipeline& operator=(const ComputePipeline&) = delete;

  VkPipeline handle() const { return handle_; }
  VkPipelineLayout layout() const { return layout_; }

 private:
  explicit ComputePipeline(Device& device) : device_(device) {}

  Device& device_;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;
  VkPipeline handle_ = VK_NULL_HANDLE;
};

}  // namespace orch::worker::vulkan
