// The device that tests run on: the first hardware device, else a software one. Without one a test is skipped with the
// reason, unless ORCH_REQUIRE_VULKAN is set (CI, where lavapipe is installed): then its absence fails the test, and
// with ORCH_REQUIRE_VULKAN=hardware (the tier `gpu`) so does the absence of a hardware device. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "worker/vulkan/device_list.h"

namespace orch::worker::vulkan {

inline VulkanSelection software_allowed() {
  VulkanSelection selection;
  selection.software = SoftwareDevices::allow;
  return selection;
}

// Why there is no device; empty when there is one.
inline std::string missing_device() {
  const auto devices = list_vulkan_devices();
  if (!devices.ok()) return devices.error().message;
  const char* required = std::getenv("ORCH_REQUIRE_VULKAN");
  const bool hardware = required != nullptr && std::string_view(required) == "hardware";
  const auto chosen = select_vulkan_device(devices.value(), hardware ? VulkanSelection() : software_allowed());
  return chosen.ok() ? std::string() : chosen.error().message;
}

class DeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = missing_device();
    if (reason.empty()) return;
    if (std::getenv("ORCH_REQUIRE_VULKAN") != nullptr) FAIL() << "ORCH_REQUIRE_VULKAN is set: " << reason;
    GTEST_SKIP() << reason;
  }
};

}  // namespace orch::worker::vulkan
