#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include "worker/vulkan/device_list.h"

namespace orch::worker {
namespace {

constexpr std::string_view kPrefix = "vulkan";
constexpr std::size_t kUuidDigits = 32;

std::string uuid_digits(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (c == '-') continue;
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) return {};
    digits.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return digits.size() == kUuidDigits ? digits : std::string();
}

Result<VulkanDeviceEntry, VulkanError> usable(const VulkanDeviceEntry& device) {
  if (device.excluded_reason.empty()) return device;
  return Err{VulkanError{VulkanErrorKind::unsuitable, "Vulkan device " + std::to_string(device.index) + " (" +
                                                          device.name + "): " + device.excluded_reason}};
}

int rank(const VulkanDeviceEntry& device) {
  if (device.software) return 3;
  return device.type == "discrete-gpu" ? 0 : device.type == "integrated-gpu" ? 1 : 2;
}

// 0: not known.
std::uint64_t smaller_known(std::uint64_t one, std::uint64_t other) {
  if (one == 0 || other == 0) return std::max(one, other);
  return std::min(one, other);
}

}  // namespace

std::uint64_t free_of_heap(std::uint64_t size, std::uint64_t budget, std::uint64_t usage) {
  if (budget == 0) return size;
  const std::uint64_t allowed = std::min(size, budget);
  return std::max<std::uint64_t>(1, allowed - std::min(allowed, usage));  // 0 would say that nothing is known
}

DeviceMemory memory_of_device(const VulkanDeviceEntry& device, const DeviceMemory& host) {
  const bool of_host = device.software || device.type == "integrated-gpu";
  if (!of_host) return {.free_bytes = device.free_bytes, .total_bytes = device.memory_bytes};
  return {.free_bytes = smaller_known(device.free_bytes, host.free_bytes),
          .total_bytes = smaller_known(device.memory_bytes, host.total_bytes)};
}

bool goes_before(const VulkanDeviceEntry& one, const VulkanDeviceEntry& other) {
  return std::pair(rank(one), one.index) < std::pair(rank(other), other.index);
}

std::vector<VulkanDeviceEntry> by_preference(std::vector<VulkanDeviceEntry> devices) {
  std::sort(devices.begin(), devices.end(), goes_before);
  return devices;
}

std::optional<VulkanSelection> parse_vulkan_selection(const std::string& text) {
  const std::string_view view(text);
  if (!view.starts_with(kPrefix)) return std::nullopt;
  VulkanSelection selection;
  if (view.size() == kPrefix.size()) return selection;
  if (view[kPrefix.size()] != ':') return std::nullopt;
  const std::string_view rest = view.substr(kPrefix.size() + 1);
  if (std::string digits = uuid_digits(rest); !digits.empty()) {
    selection.uuid = std::move(digits);
    return selection;
  }
  std::uint32_t index = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), index);
  if (error != std::errc{} || end != rest.data() + rest.size()) return std::nullopt;
  selection.index = index;
  return selection;
}

Result<VulkanDeviceEntry, VulkanError> select_vulkan_device(const std::vector<VulkanDeviceEntry>& devices,
                                                            const VulkanSelection& selection) {
  const auto not_found = [&](const std::string& what) {
    return Err{VulkanError{VulkanErrorKind::device_not_found, what + "; " + std::to_string(devices.size()) +
                                                                  " Vulkan device(s) present, see --list-devices"}};
  };
  if (selection.index) {
    for (const auto& device : devices) {
      if (device.index == *selection.index) return usable(device);
    }
    return not_found("no Vulkan device has index " + std::to_string(*selection.index));
  }
  if (!selection.uuid.empty()) {
    for (const auto& device : devices) {
      if (device.uuid == selection.uuid) return usable(device);
    }
    return not_found("no Vulkan device has UUID " + selection.uuid);
  }
  const std::vector<VulkanDeviceEntry> preferred = by_preference(devices);
  const VulkanDeviceEntry* software = nullptr;
  for (const auto& device : preferred) {
    if (!device.excluded_reason.empty()) continue;
    if (!device.software) return device;
    if (software == nullptr) software = &device;
  }
  if (software != nullptr && selection.software == SoftwareDevices::allow) return *software;
  if (software != nullptr) {
    return not_found(
        "only software Vulkan devices can serve here and they are never picked automatically (ask with vulkan:" +
        std::to_string(software->index) + ")");
  }
  return not_found("no Vulkan device can serve");
}

}  // namespace orch::worker
