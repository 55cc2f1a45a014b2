#include "worker/vulkan/vulkan_result.h"

#include <string>

namespace orch::worker::vulkan {
namespace {

VulkanErrorKind kind_of(VkResult result) {
  switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_TOO_MANY_OBJECTS:
      return VulkanErrorKind::out_of_memory;
    case VK_ERROR_DEVICE_LOST:
      return VulkanErrorKind::device_lost;
    case VK_ERROR_INCOMPATIBLE_DRIVER:
      return VulkanErrorKind::no_driver;
    case VK_ERROR_FEATURE_NOT_PRESENT:
    case VK_ERROR_EXTENSION_NOT_PRESENT:
    case VK_ERROR_LAYER_NOT_PRESENT:
      return VulkanErrorKind::unsuitable;
    default:
      return VulkanErrorKind::driver;
  }
}

}  // namespace

std::string_view result_name(VkResult result) {
  switch (result) {
    case VK_SUCCESS:
      return "VK_SUCCESS";
    case VK_NOT_READY:
      return "VK_NOT_READY";
    case VK_TIMEOUT:
      return "VK_TIMEOUT";
    case VK_INCOMPLETE:
      return "VK_INCOMPLETE";
    case VK_ERROR_OUT_OF_HOST_MEMORY:
      return "VK_ERROR_OUT_OF_HOST_MEMORY";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
      return "VK_ERROR_OUT_OF_DEVICE_MEMORY";
    case VK_ERROR_INITIALIZATION_FAILED:
      return "VK_ERROR_INITIALIZATION_FAILED";
    case VK_ERROR_DEVICE_LOST:
      return "VK_ERROR_DEVICE_LOST";
    case VK_ERROR_MEMORY_MAP_FAILED:
      return "VK_ERROR_MEMORY_MAP_FAILED";
    case VK_ERROR_LAYER_NOT_PRESENT:
      return "VK_ERROR_LAYER_NOT_PRESENT";
    case VK_ERROR_EXTENSION_NOT_PRESENT:
      return "VK_ERROR_EXTENSION_NOT_PRESENT";
    case VK_ERROR_FEATURE_NOT_PRESENT:
      return "VK_ERROR_FEATURE_NOT_PRESENT";
    case VK_ERROR_INCOMPATIBLE_DRIVER:
      return "VK_ERROR_INCOMPATIBLE_DRIVER";
    case VK_ERROR_TOO_MANY_OBJECTS:
      return "VK_ERROR_TOO_MANY_OBJECTS";
    default:
      return "another VkResult";
  }
}

Err<VulkanError> failure(std::string_view what, VkResult result) {
  std::string message(what);
  message += ": ";
  message += result_name(result);
  if (kind_of(result) == VulkanErrorKind::driver) message += " (" + std::to_string(static_cast<int>(result)) + ")";
  if (kind_of(result) == VulkanErrorKind::no_driver) {
    message += "; install a Vulkan driver for the device (Debian: mesa-vulkan-drivers or the vendor's package)";
  }
  return Err{VulkanError{kind_of(result), std::move(message)}};
}

}  // namespace orch::worker::vulkan
