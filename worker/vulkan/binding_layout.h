// The one set of bindings and push constants that every kernel is made for (worker/kernels/step.glsl): texel buffers 0
// to 5 are read, storage buffers 6 to 8 are written.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/device.h"

namespace orch::worker::vulkan {

inline constexpr std::uint32_t kPushBytesMax = 128;
inline constexpr std::uint32_t kReadBindings = 6;
inline constexpr std::uint32_t kWriteBindings = 3;

class BindingLayout {
 public:
  static Result<std::unique_ptr<BindingLayout>, VulkanError> Create(Device& device);
  ~BindingLayout();
  BindingLayout(const BindingLayout&) = delete;
  BindingLayout& operator=(const BindingLayout&) = delete;

  VkDescriptorSetLayout set_layout() const { return set_layout_; }
  VkPipelineLayout pipeline_layout() const { return pipeline_layout_; }

 private:
  explicit BindingLayout(Device& device) : device_(device) {}

  Device& device_;
  VkDescriptorSetLayout set_layout_ = VK_NULL_HANDLE;
  VkPipelineLayout pipeline_layout_ = VK_NULL_HANDLE;
};

}  // namespace orch::worker::vulkan
