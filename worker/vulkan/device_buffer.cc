#include "worker/vulkan/device_buffer.h"

#include <string>

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {
namespace {

constexpr VkDeviceSize kWordBytes = 4;
constexpr VkDeviceSize kTexelBytes = 16;

Result<VkBufferView, VulkanError> make_view(Device& device, VkBuffer buffer, VkFormat format) {
  VkBufferViewCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO;
  create.buffer = buffer;
  create.format = format;
  create.range = VK_WHOLE_SIZE;
  VkBufferView view = VK_NULL_HANDLE;
  const VkResult result = vkCreateBufferView(device.handle(), &create, nullptr, &view);
  if (result != VK_SUCCESS) return failure("creating a buffer view", result);
  return view;
}

}  // namespace

Result<std::unique_ptr<DeviceBuffer>, VulkanError> DeviceBuffer::Create(Device& device, MemoryArena& arena,
                                                                        const char* name, VkDeviceSize bytes) {
  const VkDeviceSize rounded = (bytes + kTexelBytes - 1) / kTexelBytes * kTexelBytes;
  std::unique_ptr<DeviceBuffer> buffer(new DeviceBuffer(device, rounded == 0 ? kTexelBytes : rounded));
  const std::string what = std::string(name) + " of " + std::to_string(bytes) + " bytes";
  const PhysicalDeviceFacts& facts = device.facts();
  if (buffer->size_ / kTexelBytes > facts.texels_max) {
    return Err{VulkanError{VulkanErrorKind::out_of_memory,
                           what + " exceeds the " + std::to_string(facts.texels_max * kTexelBytes) +
                               " bytes that one view on " + facts.entry.name + " reaches"}};
  }
  VkBufferCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  create.size = buffer->size_;
  create.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
                 VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT;
  create.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  if (const VkResult result = vkCreateBuffer(device.handle(), &create, nullptr, &buffer->handle_);
      result != VK_SUCCESS) {
    return failure("creating " + what, result);
  }
  VkMemoryRequirements requirements{};
  vkGetBufferMemoryRequirements(device.handle(), buffer->handle_, &requirements);
  auto slice = arena.take(requirements);
  if (!slice.ok()) return Err{VulkanError{slice.error().kind, what + ": " + slice.error().message}};
  buffer->slice_ = slice.value();
  const VkResult bound =
      vkBindBufferMemory(device.handle(), buffer->handle_, buffer->slice_.memory, buffer->slice_.offset);
  if (bound != VK_SUCCESS) return failure("binding " + what, bound);
  ORCH_TRY(texels, make_view(device, buffer->handle_, VK_FORMAT_R32G32B32A32_UINT));
  buffer->texels_ = texels;
  if (buffer->size_ / kWordBytes <= facts.texels_max) {
    ORCH_TRY(words, make_view(device, buffer->handle_, VK_FORMAT_R32_UINT));
    buffer->words_ = words;
  }
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (texels_ != VK_NULL_HANDLE) vkDestroyBufferView(device_.handle(), texels_, nullptr);
  if (words_ != VK_NULL_HANDLE) vkDestroyBufferView(device_.handle(), words_, nullptr);
  if (handle_ != VK_NULL_HANDLE) vkDestroyBuffer(device_.handle(), handle_, nullptr);
}

}  // namespace orch::worker::vulkan
