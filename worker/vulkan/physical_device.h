// Reads what a physical device is and whether the kernels can run on it. Pure queries; owns nothing.
#pragma once

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/device_list.h"

namespace orch::worker::vulkan {

struct PhysicalDeviceFacts {
  VulkanDeviceEntry entry;
  std::uint32_t compute_family = 0;
  bool rte_float32 = false;  // RoundingModeRTE 32 may be asked for
  std::string driver_uuid;   // with cache_uuid: what compiled pipelines belong to
  std::string cache_uuid;
  bool shuffle = false;  // subgroup shuffle in compute
  VkDeviceSize allocation_bytes_max = 0;
  VkDeviceSize storage_range_max = 0;  // bytes of one storage-buffer binding
  VkDeviceSize texels_max = 0;         // of one texel-buffer view
  std::uint32_t shared_bytes_max = 0;
  VkPhysicalDeviceMemoryProperties memory{};
};

PhysicalDeviceFacts inspect(VkPhysicalDevice device, std::uint32_t index);

}  // namespace orch::worker::vulkan
