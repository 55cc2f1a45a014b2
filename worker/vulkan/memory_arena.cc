#include "worker/vulkan/memory_arena.h"

#include <algorithm>
#include <optional>

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {
namespace {

constexpr VkDeviceSize kBlockBytes = 256ULL << 20U;
constexpr VkDeviceSize kSmallBlockBytes = 16ULL << 20U;  // host memory: step input and results are small

VkDeviceSize aligned(VkDeviceSize offset, VkDeviceSize alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

std::optional<std::uint32_t> find_type(const VkPhysicalDeviceMemoryProperties& memory, VkMemoryPropertyFlags flags) {
  for (std::uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
    if ((memory.memoryTypes[i].propertyFlags & flags) == flags) return i;
  }
  return std::nullopt;
}

// A device that shares the host's memory lists a type that is everything at once; a discrete one with a host-visible
// window is still given its plain type for weights, because that window is small or slow where resizable BAR is off.
std::optional<std::uint32_t> choose_type(const PhysicalDeviceFacts& facts, MemoryUse use) {
  constexpr VkMemoryPropertyFlags kCoherent =
      VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  if (use == MemoryUse::host) {
    const auto cached = find_type(facts.memory, kCoherent | VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    return cached ? cached : find_type(facts.memory, kCoherent);
  }
  if (facts.entry.type == "cpu" || facts.entry.type == "integrated-gpu") {
    if (const auto shared = find_type(facts.memory, kCoherent | VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)) return shared;
  }
  return find_type(facts.memory, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
}

}  // namespace

Result<std::unique_ptr<MemoryArena>, VulkanError> MemoryArena::Create(Device& device, MemoryUse use) {
  const auto type = choose_type(device.facts(), use);
  if (!type) {
    return Err{
        VulkanError{VulkanErrorKind::unsuitable, device.facts().entry.name + " lists no memory type that " +
                                                     (use == MemoryUse::host ? "the host can write" : "is its own")}};
  }
  const bool mappable =
      (device.facts().memory.memoryTypes[*type].propertyFlags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT) != 0 &&
      (use == MemoryUse::host || device.facts().entry.type == "cpu" || device.facts().entry.type == "integrated-gpu");
  return std::unique_ptr<MemoryArena>(new MemoryArena(device, *type, mappable));
}

MemoryArena::~MemoryArena() {
  for (const Block& block : blocks_) vkFreeMemory(device_.handle(), block.memory, nullptr);
}

Status<VulkanError> MemoryArena::grow(VkDeviceSize bytes) {
  const VkDeviceSize usual = bytes <= kSmallBlockBytes && blocks_.empty() ? kSmallBlockBytes : kBlockBytes;
  Block block;
  block.size = std::max(bytes, usual);
  const VkDeviceSize limit = device_.facts().allocation_bytes_max;
  if (block.size > limit) block.size = bytes;
  if (block.size > limit) {
    return Err{VulkanError{VulkanErrorKind::out_of_memory,
                           "an allocation of " + std::to_string(bytes) + " bytes exceeds the " + std::to_string(limit) +
                               " that " + device_.facts().entry.name + " allows at once"}};
  }
  VkMemoryAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
  allocate.allocationSize = block.size;
  allocate.memoryTypeIndex = type_;
  VkResult result = vkAllocateMemory(device_.handle(), &allocate, nullptr, &block.memory);
  if (result != VK_SUCCESS && block.size > bytes) {
    allocate.allocationSize = block.size = bytes;
    result = vkAllocateMemory(device_.handle(), &allocate, nullptr, &block.memory);
  }
  if (result != VK_SUCCESS) {
    return failure("allocating " + std::to_string(block.size) + " bytes on " + device_.facts().entry.name, result);
  }
  blocks_.push_back(block);
  if (mappable_) {
    void* mapped = nullptr;
    result = vkMapMemory(device_.handle(), block.memory, 0, VK_WHOLE_SIZE, 0, &mapped);
    if (result != VK_SUCCESS) return failure("mapping " + std::to_string(block.size) + " bytes", result);
    blocks_.back().mapped = static_cast<std::byte*>(mapped);
  }
  return Ok{};
}

Result<MemorySlice, VulkanError> MemoryArena::take(const VkMemoryRequirements& requirements) {
  if ((requirements.memoryTypeBits & (1U << type_)) == 0) {
    return Err{VulkanError{VulkanErrorKind::unsuitable,
                           "memory type " + std::to_string(type_) + " cannot hold a storage buffer"}};
  }
  const auto fits = [&](const Block& block) {
    return aligned(block.used, requirements.alignment) + requirements.size <= block.size;
  };
  auto found = std::find_if(blocks_.begin(), blocks_.end(), fits);
  if (found == blocks_.end()) {
    ORCH_TRY(grown, grow(requirements.size));
    static_cast<void>(grown);
    found = blocks_.end() - 1;
  }
  MemorySlice slice;
  slice.memory = found->memory;
  slice.offset = aligned(found->used, requirements.alignment);
  slice.mapped = found->mapped == nullptr ? nullptr : found->mapped + slice.offset;
  found->used = slice.offset + requirements.size;
  bytes_taken_ += requirements.size;
  return slice;
}

}  // namespace orch::worker::vulkan
