// A storage buffer with a device address, bound to arena memory. Shaders reach it by address alone (no descriptor sets),
// which lifts the range limit of a binding.
// Threads: as Device. Owns the VkBuffer, not its memory.
#pragma once

#include <memory>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/memory_arena.h"

namespace orch::worker::vulkan {

class Buffer {
 public:
  static Result<std::unique_ptr<Buffer>, VulkanError> Create(Device& device, MemoryArena& arena, VkDeviceSize bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  VkBuffer handle() const { return handle_; }
  VkDeviceAddress address() const { return address_; }
  VkDeviceSize size() const { return size_; }
  std::byte* mapped() const { return slice_.mapped; }  // null: not visible to the host

 private:
  Buffer(Device& device, VkDeviceSize size) : device_(device), size_(size) {}

  Device& device_;
  VkDeviceSize size_;
  VkBuffer handle_ = VK_NULL_HANDLE;
  VkDeviceAddress address_ = 0;
  MemorySlice slice_;
};

}  // namespace orch::worker::vulkan
