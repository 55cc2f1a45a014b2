#include "worker/vulkan/instance.h"

#include <array>
#include <cstring>

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {
namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";
constexpr std::size_t kMessagesMax = 64;

bool layer_installed(const char* name) {
  std::uint32_t count = 0;
  vkEnumerateInstanceLayerProperties(&count, nullptr);
  std::vector<VkLayerProperties> layers(count);
  vkEnumerateInstanceLayerProperties(&count, layers.data());
  for (const auto& layer : layers) {
    if (std::strcmp(layer.layerName, name) == 0) return true;
  }
  return false;
}

}  // namespace

VkBool32 Instance::on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                              const VkDebugUtilsMessengerCallbackDataEXT* data, void* self) {
  auto* instance = static_cast<Instance*>(self);
  std::lock_guard lock(instance->messages_mutex_);
  if (instance->messages_.size() < kMessagesMax) instance->messages_.emplace_back(data->pMessage);
  return VK_FALSE;
}

Result<std::unique_ptr<Instance>, VulkanError> Instance::Create(Validation validation) {
  std::unique_ptr<Instance> instance(new Instance());
  VkApplicationInfo application{};
  application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
  application.pApplicationName = "llama-orch workerd";
  application.apiVersion = VK_API_VERSION_1_2;

  VkInstanceCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  create.pApplicationInfo = &application;

  VkDebugUtilsMessengerCreateInfoEXT messenger{};
  messenger.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT;
  messenger.messageSeverity =
      VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
  messenger.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT;
  messenger.pfnUserCallback = &Instance::on_message;
  messenger.pUserData = instance.get();

  const std::array enabled{VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
  VkValidationFeaturesEXT features{};
  features.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT;
  features.enabledValidationFeatureCount = enabled.size();
  features.pEnabledValidationFeatures = enabled.data();
  features.pNext = &messenger;
  const std::array extensions{VK_EXT_DEBUG_UTILS_EXTENSION_NAME};

  if (validation != Validation::off) {
    if (!layer_installed(kValidationLayer)) {
      return Err{VulkanError{VulkanErrorKind::unsuitable,
                             std::string(kValidationLayer) + " is not installed (Debian: vulkan-validationlayers)"}};
    }
    create.pNext = &features;
    create.enabledLayerCount = 1;
    create.ppEnabledLayerNames = &kValidationLayer;
    create.enabledExtensionCount = extensions.size();
    create.ppEnabledExtensionNames = extensions.data();
  }
  if (const VkResult result = vkCreateInstance(&create, nullptr, &instance->handle_); result != VK_SUCCESS) {
    return failure("no Vulkan instance", result);
  }
  if (validation != Validation::off) {
    const auto make = reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(
        vkGetInstanceProcAddr(instance->handle_, "vkCreateDebugUtilsMessengerEXT"));
    if (make == nullptr) {
      return Err{VulkanError{VulkanErrorKind::unsuitable, "the loader lacks vkCreateDebugUtilsMessengerEXT"}};
    }
    const VkResult result = make(instance->handle_, &messenger, nullptr, &instance->messenger_);
    if (result != VK_SUCCESS) return failure("no validation messenger", result);
  }
  return instance;
}

Instance::~Instance() {
  if (messenger_ != VK_NULL_HANDLE) {
    const auto destroy = reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(
        vkGetInstanceProcAddr(handle_, "vkDestroyDebugUtilsMessengerEXT"));
    destroy(handle_, messenger_, nullptr);
  }
  if (handle_ != VK_NULL_HANDLE) vkDestroyInstance(handle_, nullptr);
}

std::vector<VkPhysicalDevice> Instance::physical_devices() const {
  std::uint32_t count = 0;
  vkEnumeratePhysicalDevices(handle_, &count, nullptr);
  std::vector<VkPhysicalDevice> devices(count);
  if (count > 0) vkEnumeratePhysicalDevices(handle_, &count, devices.data());
  devices.resize(count);
  return devices;
}

void Instance::forget_validation_messages() {
  std::lock_guard lock(messages_mutex_);
  messages_.clear();
}

std::vector<std::string> Instance::validation_messages() const {
  std::lock_guard lock(messages_mutex_);
  return messages_;
}

}  // namespace orch::worker::vulkan
