#include "pool-managerd/core/memory_sharers.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace orch::pool {
namespace {

constexpr std::string_view kVulkan = "vulkan";
constexpr std::size_t kIndexDigitsMax = 3;  // config-schema, format `device`

// The N of vulkan:N or the digits of vulkan:UUID, in one spelling; empty: whichever Vulkan device.
std::string device_name(std::string_view device) {
  if (device.size() <= kVulkan.size() + 1) return {};
  std::string name;
  for (const char each : device.substr(kVulkan.size() + 1)) {
    if (each != '-') name.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(each))));
  }
  if (name.size() <= kIndexDigitsMax) name.erase(0, std::min(name.find_first_not_of('0'), name.size() - 1));
  return name;
}

bool is_index(std::string_view name) { return name.size() <= kIndexDigitsMax; }

}  // namespace

bool may_share_memory(std::string_view device, std::string_view other) {
  if (device == "auto" || other == "auto") return true;
  if (device == "cpu" || other == "cpu") return device == other;
  const std::string one = device_name(device);
  const std::string two = device_name(other);
  return one.empty() || two.empty() || one == two || is_index(one) != is_index(two);
}

void count_memory_sharers(std::vector<ReplicaSpec>& replicas) {
  for (ReplicaSpec& spec : replicas) {
    const auto shares = [&](const ReplicaSpec& other) {
      return !other.device.empty() && may_share_memory(spec.device, other.device);
    };
    if (!spec.device.empty())
      spec.memory_sharers = static_cast<std::uint32_t>(std::count_if(replicas.begin(), replicas.end(), shares));
  }
}

}  // namespace orch::pool
