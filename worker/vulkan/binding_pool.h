// Descriptor sets for the dispatches of recorded steps: written once, never updated, freed with the pool.
// Threads: as Device.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/binding_layout.h"
#include "worker/vulkan/device.h"

namespace orch::worker::vulkan {

// Null entries are bindings that the kernel does not use.
struct Bindings {
  std::array<VkBufferView, kReadBindings> reads{};
  std::array<VkBuffer, kWriteBindings> writes{};
};

class BindingPool {
 public:
  static Result<std::unique_ptr<BindingPool>, VulkanError> Create(Device& device, const BindingLayout& layout);
  ~BindingPool();
  BindingPool(const BindingPool&) = delete;
  BindingPool& operator=(const BindingPool&) = delete;

  Result<VkDescriptorSet, VulkanError> make(const Bindings& bindings);

 private:
  BindingPool(Device& device, const BindingLayout& layout) : device_(device), layout_(layout) {}
  Status<VulkanError> grow();

  Device& device_;
  const BindingLayout& layout_;
  std::vector<VkDescriptorPool> pools_;
  std::uint32_t left_ = 0;  // sets in the last pool
};

}  // namespace orch::worker::vulkan
