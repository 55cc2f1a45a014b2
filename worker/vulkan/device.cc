#include "worker/vulkan/device.h"

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<Device>, VulkanError> Device::Create(VkPhysicalDevice physical,
                                                            const PhysicalDeviceFacts& facts) {
  std::unique_ptr<Device> device(new Device(facts));
  const float priority = 1.0F;
  VkDeviceQueueCreateInfo queue{};
  queue.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
  queue.queueFamilyIndex = facts.compute_family;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;

  VkDeviceCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
  create.queueCreateInfoCount = 1;
  create.pQueueCreateInfos = &queue;
  if (const VkResult result = vkCreateDevice(physical, &create, nullptr, &device->handle_); result != VK_SUCCESS) {
    return failure("opening " + facts.entry.name, result);
  }
  vkGetDeviceQueue(device->handle_, facts.compute_family, 0, &device->queue_);
  return device;
}

Device::~Device() {
  if (handle_ == VK_NULL_HANDLE) return;
  if (fence_ != VK_NULL_HANDLE) {  // else nothing was ever submitted
    vkDeviceWaitIdle(handle_);
    vkDestroyFence(handle_, fence_, nullptr);
  }
  vkDestroyDevice(handle_, nullptr);
}

Status<VulkanError> Device::make_fence() {
  if (fence_ != VK_NULL_HANDLE) return Ok{};
  VkFenceCreateInfo fence{};
  fence.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO;
  const VkResult result = vkCreateFence(handle_, &fence, nullptr, &fence_);
  if (result != VK_SUCCESS) return failure("creating a fence", result);
  return Ok{};
}

Status<VulkanError> Device::run(VkCommandBuffer commands, std::uint64_t timeout_ns) {
  ORCH_TRY(fence, make_fence());
  static_cast<void>(fence);
  VkSubmitInfo submit{};
  submit.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
  submit.commandBufferCount = 1;
  submit.pCommandBuffers = &commands;
  if (const VkResult result = vkQueueSubmit(queue_, 1, &submit, fence_); result != VK_SUCCESS) {
    return failure("submitting to " + facts_.entry.name, result);
  }
  const VkResult waited = vkWaitForFences(handle_, 1, &fence_, VK_TRUE, timeout_ns);
  if (waited == VK_TIMEOUT) {
    return Err{VulkanError{VulkanErrorKind::device_lost, facts_.entry.name + " did not finish a submission within " +
                                                             std::to_string(timeout_ns / 1'000'000) + " ms"}};
  }
  if (waited != VK_SUCCESS) return failure("waiting for " + facts_.entry.name, waited);
  if (const VkResult result = vkResetFences(handle_, 1, &fence_); result != VK_SUCCESS) {
    return failure("resetting a fence", result);
  }
  return Ok{};
}

}  // namespace orch::worker::vulkan
