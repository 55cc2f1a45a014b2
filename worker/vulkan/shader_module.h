// SPIR-V handed to the driver. Needed only while pipelines are made from it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/device.h"

namespace orch::worker::vulkan {

class ShaderModule {
 public:
  static Result<std::unique_ptr<ShaderModule>, VulkanError> Create(Device& device,
                                                                   std::span<const std::uint32_t> words);
  ~ShaderModule();
  ShaderModule(const ShaderModule&) = delete;
  ShaderModule& operator=(const ShaderModule&) = delete;

  VkShaderModule handle() const { return handle_; }

 private:
  explicit ShaderModule(Device& device) : device_(device) {}

  Device& device_;
  VkShaderModule handle_ = VK_NULL_HANDLE;
};

}  // namespace orch::worker::vulkan
