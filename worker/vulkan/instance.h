// The Vulkan instance: one per process or test. Owns the optional validation messenger.
// Threads: creation and destruction on one thread; the driver may call the messenger from any thread that calls Vulkan.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <vulkan/vulkan_core.h>

#include "common/base/result.h"
#include "worker/vulkan/vulkan_error.h"

namespace orch::worker::vulkan {

enum class Validation : std::uint8_t {
  off,
  synchronization,  // VK_LAYER_KHRONOS_validation with synchronization validation; `unsuitable` when it is not
                    // installed
};

class Instance {
 public:
  static Result<std::unique_ptr<Instance>, VulkanError> Create(Validation validation);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  VkInstance handle() const { return handle_; }
  std::vector<VkPhysicalDevice> physical_devices() const;

  // Warnings and errors of the validation layer so far (bounded; the first are kept). Empty when validation is off.
  std::vector<std::string> validation_messages() const;
  void forget_validation_messages();

 private:
  Instance() = default;
  static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                   VkDebugUtilsMessageTypeFlagsEXT types,
                                                   const VkDebugUtilsMessengerCallbackDataEXT* data, void* self);

  VkInstance handle_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  mutable std::mutex messages_mutex_;
  std::vector<std::string> messages_;
};

}  // namespace orch::worker::vulkan
