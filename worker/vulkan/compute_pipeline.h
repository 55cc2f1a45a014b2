// One kernel with its specialisation constants; its arguments are bindings (binding_layout.h) and push constants.
// Specialisation constant i of the span has constant_id i; id 0 is the workgroup's width.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/binding_layout.h"
#include "worker/vulkan/device.h"
#include "worker/vulkan/pipeline_cache.h"

namespace orch::worker::vulkan {

class ComputePipeline {
 public:
  static Result<std::unique_ptr<ComputePipeline>, VulkanError> Create(Device& device, PipelineCache& cache,
                                                                      const BindingLayout& layout,
                                                                      std::span<const std::uint32_t> spirv,
                                                                      std::span<const std::uint32_t> constants);
  ~ComputePipeline();
  ComputePipeline(const ComputePipeline&) = delete;
  ComputePipeline& operator=(const ComputePipeline&) = delete;

  VkPipeline handle() const { return handle_; }

 private:
  explicit ComputePipeline(Device& device) : device_(device) {}

  Device& device_;
  VkPipeline handle_ = VK_NULL_HANDLE;
};

}  // namespace orch::worker::vulkan
