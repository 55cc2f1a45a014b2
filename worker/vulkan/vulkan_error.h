// Why something Vulkan-shaped failed, in words a person at a terminal can act on. Plain values; no Vulkan header
// needed.
#pragma once

#include <cstdint>
#include <string>

namespace orch::worker {

enum class VulkanErrorKind : std::uint8_t {
  no_driver,          // no loader entry point or no installable client driver: there is no Vulkan on this machine
  device_not_found,   // drivers exist, none offers the device asked for
  unsuitable,         // the device exists and lacks something; the message names it
  out_of_memory,      // message names the size asked for
  device_lost,        // the process must end: nothing on this device can be trusted any more
  self_test,          // the device computes other bytes than the contract (ENGINE-RULES, class X)
  unsupported_model,  // the model needs an operation or tensor type without a kernel; the message names it
  driver,             // any other driver error
};

struct VulkanError {
  VulkanErrorKind kind = VulkanErrorKind::driver;
  std::string message;
};

}  // namespace orch::worker
