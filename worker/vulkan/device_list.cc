#include "worker/vulkan/device_list.h"

#include "worker/vulkan/instance.h"
#include "worker/vulkan/physical_device.h"

namespace orch::worker {

Result<std::vector<VulkanDeviceEntry>, VulkanError> list_vulkan_devices() {
  ORCH_TRY(instance, vulkan::Instance::Create(vulkan::Validation::off));
  std::vector<VulkanDeviceEntry> entries;
  for (VkPhysicalDevice device : instance->physical_devices()) {
    entries.push_back(vulkan::inspect(device, static_cast<std::uint32_t>(entries.size())).entry);
  }
  return entries;
}

}  // namespace orch::worker
