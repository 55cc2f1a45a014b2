// A buffer that kernels write as a storage buffer and read through texel views, bound to arena memory.
// Threads: as Device. Owns the VkBuffer and its views, not its memory.
#pragma once

#include <memory>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/memory_arena.h"

namespace orch::worker::vulkan {

class DeviceBuffer {
 public:
  // `name` is for error messages. At most the device's storage-buffer range and texel counts, checked here.
  static Result<std::unique_ptr<DeviceBuffer>, VulkanError> Create(Device& device, MemoryArena& arena, const char* name,
                                                                   VkDeviceSize bytes);
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  VkBuffer handle() const { return handle_; }
  VkDeviceSize size() const { return size_; }
  std::byte* mapped() const { return slice_.mapped; }  // null: not visible to the host
  VkBufferView words() const { return words_; }        // one 32-bit word a texel; null when that is too many texels
  VkBufferView texels() const { return texels_; }      // four words a texel

 private:
  DeviceBuffer(Device& device, VkDeviceSize size) : device_(device), size_(size) {}

  Device& device_;
  VkDeviceSize size_;
  VkBuffer handle_ = VK_NULL_HANDLE;
  VkBufferView words_ = VK_NULL_HANDLE;
  VkBufferView texels_ = VK_NULL_HANDLE;
  MemorySlice slice_;
};

}  // namespace orch::worker::vulkan
