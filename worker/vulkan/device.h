// A logical device with one compute queue. Owns the VkDevice; outlives every object made from it.
// Threads: one thread at a time (the engine's); nothing here locks.
#pragma once

#include <memory>

#include <vulkan/vulkan_core.h>

#include "common/base/result.h"
#include "worker/vulkan/physical_device.h"
#include "worker/vulkan/vulkan_error.h"

namespace orch::worker::vulkan {

class Device {
 public:
  static Result<std::unique_ptr<Device>, VulkanError> Create(VkPhysicalDevice physical,
                                                             const PhysicalDeviceFacts& facts);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  VkDevice handle() const { return handle_; }
  VkQueue queue() const { return queue_; }
  const PhysicalDeviceFacts& facts() const { return facts_; }

  // Runs one recorded command buffer and waits for its end, at most `timeout_ns`; a timeout counts as device lost.
  Status<VulkanError> run(VkCommandBuffer commands, std::uint64_t timeout_ns);

 private:
  explicit Device(const PhysicalDeviceFacts& facts) : facts_(facts) {}
  Status<VulkanError> make_fence();

  PhysicalDeviceFacts facts_;
  VkDevice handle_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
  VkFence fence_ = VK_NULL_HANDLE;  // made by the first submission: drivers for absent hardware have none
};

}  // namespace orch::worker::vulkan
