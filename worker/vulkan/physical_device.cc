#include "worker/vulkan/physical_device.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace orch::worker::vulkan {
namespace {

constexpr std::uint32_t kPushBytesNeeded = 128;      // the Vulkan minimum; kernels stay inside it
constexpr std::uint32_t kSharedBytesNeeded = 16384;  // the Vulkan minimum

const char* type_name(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return "discrete-gpu";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return "integrated-gpu";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return "virtual-gpu";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return "cpu";
    default:
      return "other";
  }
}

std::string hex(const std::uint8_t (&bytes)[VK_UUID_SIZE]) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const std::uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4U]);
    text.push_back(kDigits[byte & 15U]);
  }
  return text;
}

// The first family with compute; a compute-only one is preferred: it is not shared with a display.
std::optional<std::uint32_t> compute_family(VkPhysicalDevice device) {
  std::uint32_t count = 0;
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  vkGetPhysicalDeviceQueueFamilyProperties(device, &count, families.data());
  std::optional<std::uint32_t> any;
  for (std::uint32_t i = 0; i < count; ++i) {
    if ((families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) == 0) continue;
    if ((families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT) == 0) return i;
    if (!any) any = i;
  }
  return any;
}

bool has_extension(VkPhysicalDevice device, const char* name) {
  std::uint32_t count = 0;
  vkEnumerateDeviceExtensionProperties(device, nullptr, &count, nullptr);
  std::vector<VkExtensionProperties> extensions(count);
  vkEnumerateDeviceExtensionProperties(device, nullptr, &count, extensions.data());
  return std::any_of(extensions.begin(), extensions.begin() + count,
                     [name](const auto& each) { return std::strcmp(each.extensionName, name) == 0; });
}

// Size of the largest device-local heap, and what of it is free.
void read_memory(VkPhysicalDevice device, PhysicalDeviceFacts& facts) {
  VkPhysicalDeviceMemoryBudgetPropertiesEXT budget{};
  budget.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT;
  VkPhysicalDeviceMemoryProperties2 memory{};
  memory.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2;
  if (has_extension(device, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME)) memory.pNext = &budget;
  vkGetPhysicalDeviceMemoryProperties2(device, &memory);
  facts.memory = memory.memoryProperties;
  for (std::uint32_t i = 0; i < facts.memory.memoryHeapCount; ++i) {
    const VkMemoryHeap& heap = facts.memory.memoryHeaps[i];
    if ((heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) == 0 || heap.size <= facts.entry.memory_bytes) continue;
    facts.entry.memory_bytes = heap.size;
    facts.entry.free_bytes = free_of_heap(heap.size, budget.heapBudget[i], budget.heapUsage[i]);
  }
}

}  // namespace

PhysicalDeviceFacts inspect(VkPhysicalDevice device, std::uint32_t index) {
  PhysicalDeviceFacts facts;
  VkPhysicalDeviceVulkan12Properties properties12{};
  properties12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES;
  VkPhysicalDeviceVulkan11Properties properties11{};
  properties11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES;
  properties11.pNext = &properties12;
  VkPhysicalDeviceProperties2 properties{};
  properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;

  vkGetPhysicalDeviceProperties(device, &properties.properties);
  const bool vulkan12 = properties.properties.apiVersion >= VK_API_VERSION_1_2;
  if (vulkan12) {
    properties.pNext = &properties11;
    vkGetPhysicalDeviceProperties2(device, &properties);
  }
  if (properties.properties.apiVersion >= VK_API_VERSION_1_1) {
    read_memory(device, facts);
  } else {  // excluded below
    vkGetPhysicalDeviceMemoryProperties(device, &facts.memory);
  }

  VulkanDeviceEntry& entry = facts.entry;
  entry.index = index;
  entry.uuid = hex(properties11.deviceUUID);
  facts.driver_uuid = hex(properties11.driverUUID);
  facts.cache_uuid = hex(properties.properties.pipelineCacheUUID);
  entry.name = properties.properties.deviceName;
  entry.driver = std::string(properties12.driverName) + " " + properties12.driverInfo;
  entry.type = type_name(properties.properties.deviceType);
  entry.subgroup_size = properties11.subgroupSize;
  entry.software = properties.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
  facts.rte_float32 = properties12.shaderRoundingModeRTEFloat32 == VK_TRUE;
  facts.allocation_bytes_max = properties11.maxMemoryAllocationSize;
  facts.storage_range_max = properties.properties.limits.maxStorageBufferRange;
  facts.texels_max = properties.properties.limits.maxTexelBufferElements;
  facts.shared_bytes_max = properties.properties.limits.maxComputeSharedMemorySize;
  facts.shuffle = (properties11.subgroupSupportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT) != 0 &&
                  (properties11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0;

  if (!vulkan12) {
    entry.excluded_reason = "needs Vulkan 1.2, the driver offers " +
                            std::to_string(VK_API_VERSION_MAJOR(properties.properties.apiVersion)) + "." +
                            std::to_string(VK_API_VERSION_MINOR(properties.properties.apiVersion));
    return facts;
  }
  const auto family = compute_family(device);
  facts.compute_family = family.value_or(0);
  if (!family) {
    entry.excluded_reason = "no compute queue";
  } else if (properties.properties.limits.maxPushConstantsSize < kPushBytesNeeded) {
    entry.excluded_reason = "push constants are limited to " +
                            std::to_string(properties.properties.limits.maxPushConstantsSize) + " bytes, " +
                            std::to_string(kPushBytesNeeded) + " needed";
  } else if (facts.shared_bytes_max < kSharedBytesNeeded) {
    entry.excluded_reason = "shared memory of a workgroup is limited to " + std::to_string(facts.shared_bytes_max) +
                            " bytes, " + std::to_string(kSharedBytesNeeded) + " needed";
  }
  return facts;
}

}  // namespace orch::worker::vulkan
