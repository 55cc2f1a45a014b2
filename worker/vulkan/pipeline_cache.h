// The driver's cache of compiled pipelines, kept for the life of the device. It begins with bytes of an earlier one
// (pipeline_cache_file.h); a driver ignores bytes that are not its own.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/device.h"

namespace orch::worker::vulkan {

class PipelineCache {
 public:
  static Result<std::unique_ptr<PipelineCache>, VulkanError> Create(Device& device, std::span<const std::byte> earlier);
  ~PipelineCache();
  PipelineCache(const PipelineCache&) = delete;
  PipelineCache& operator=(const PipelineCache&) = delete;

  VkPipelineCache handle() const { return handle_; }
  std::vector<std::byte> bytes() const;  // empty when the driver gives none

 private:
  explicit PipelineCache(Device& device) : device_(device) {}

  Device& device_;
  VkPipelineCache handle_ = VK_NULL_HANDLE;
};

}  // namespace orch::worker::vulkan
