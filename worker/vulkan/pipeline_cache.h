// The driver's cache of compiled pipelines, kept for the life of the device.
#pragma once

#include <memory>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/device.h"

namespace orch::worker::vulkan {

class PipelineCache {
 public:
  static Result<std::unique_ptr<PipelineCache>, VulkanError> Create(Device& device);
  ~PipelineCache();
  PipelineCache(const PipelineCache&) = delete;
  PipelineCache& operator=(const PipelineCache&) = delete;

  VkPipelineCache handle() const { return handle_; }

 private:
  explicit PipelineCache(Device& device) : device_(device) {}

  Device& device_;
  VkPipelineCache handle_ = VK_NULL_HANDLE;
};

}  // namespace orch::worker::vulkan
