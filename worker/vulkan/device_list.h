// What Vulkan devices this machine has, which of them can serve, and why the others cannot (ENGINE-RULES, interface 9).
// Plain values: `workerd --list-devices` prints them; no Vulkan header needed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "worker/model/device_memory.h"
#include "worker/vulkan/vulkan_error.h"

namespace orch::worker {

struct VulkanDeviceEntry {
  std::uint32_t index = 0;  // the N of --device vulkan:N; the loader's order
  std::string uuid;         // 32 hex digits
  std::string name;
  std::string driver;              // name and version as the driver gives them
  std::string type;                // discrete-gpu | integrated-gpu | virtual-gpu | cpu | other
  std::uint64_t memory_bytes = 0;  // the largest device-local heap
  std::uint64_t free_bytes = 0;    // of it, as the driver says (OC-DEVICE-1013); all of it where it says nothing
  std::uint32_t subgroup_size = 0;
  bool software = false;        // runs on the CPU: never picked automatically
  std::string excluded_reason;  // empty: can serve when asked for
};

// Empty list: drivers load but show no device. no_driver: nothing loads.
Result<std::vector<VulkanDeviceEntry>, VulkanError> list_vulkan_devices();

enum class SoftwareDevices : std::uint8_t { refuse, allow };

// Which device: by index, by UUID, or the preferred hardware device. A software device answers to its index or UUID, or
// to SoftwareDevices::allow when there is no hardware device.
struct VulkanSelection {
  std::optional<std::uint32_t> index;
  std::string uuid;  // 32 hex digits or empty
  SoftwareDevices software = SoftwareDevices::refuse;
};

// OC-DEVICE-1013. What a heap's budget leaves beside what this process holds of it. Budget 0: the driver tells none.
std::uint64_t free_of_heap(std::uint64_t size, std::uint64_t budget, std::uint64_t usage);
// OC-DEVICE-1010: the heap of an integrated or software device is the host's memory, whoever has it by now.
DeviceMemory memory_of_device(const VulkanDeviceEntry& device, const DeviceMemory& host);

// OC-DEVICE-1011: discrete before integrated before others before software, then by index, which no two have in common.
bool goes_before(const VulkanDeviceEntry& one, const VulkanDeviceEntry& other);
std::vector<VulkanDeviceEntry> by_preference(std::vector<VulkanDeviceEntry> devices);

// The entry of `devices` that the selection names, or device_not_found / unsuitable with the reason.
Result<VulkanDeviceEntry, VulkanError> select_vulkan_device(const std::vector<VulkanDeviceEntry>& devices,
                                                            const VulkanSelection& selection);

// "vulkan", "vulkan:N" or "vulkan:UUID" (with or without dashes). nullopt: not of that form.
std::optional<VulkanSelection> parse_vulkan_selection(const std::string& text);

}  // namespace orch::worker
