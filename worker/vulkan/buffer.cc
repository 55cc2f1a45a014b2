#include "worker/vulkan/buffer.h"

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<Buffer>, VulkanError> Buffer::Create(Device& device, MemoryArena& arena, VkDeviceSize bytes) {
  std::unique_ptr<Buffer> buffer(new Buffer(device, bytes));
  VkBufferCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  create.size = bytes;
  create.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT |
                 VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT;
  create.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  if (const VkResult result = vkCreateBuffer(device.handle(), &create, nullptr, &buffer->handle_); result != VK_SUCCESS) {
    return failure("creating a buffer of " + std::to_string(bytes) + " bytes", result);
  }
  VkMemoryRequirements requirements{};
  vkGetBufferMemoryRequirements(device.handle(), buffer->handle_, &requirements);
  ORCH_TRY(slice, arena.take(requirements));
  buffer->slice_ = slice;
  const VkResult bound = vkBindBufferMemory(device.handle(), buffer->handle_, slice.memory, slice.offset);
  if (bound != VK_SUCCESS) return failure("binding a buffer of " + std::to_string(bytes) + " bytes", bound);
  VkBufferDeviceAddressInfo address{};
  address.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO;
  address.buffer = buffer->handle_;
  buffer->address_ = vkGetBufferDeviceAddress(device.handle(), &address);
  return buffer;
}

Buffer::~Buffer() {
  if (handle_ != VK_NULL_HANDLE) vkDestroyBuffer(device_.handle(), handle_, nullptr);
}

}  // namespace orch::worker::vulkan
