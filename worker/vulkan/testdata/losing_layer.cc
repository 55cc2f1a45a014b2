// A Vulkan layer that loses the device: once more than $VK_ORCH_LOSE_DEVICE_AFTER submissions were made, or the file
// $VK_ORCH_LOSE_DEVICE_FILE exists, this submission and every later one fails with VK_ERROR_DEVICE_LOST, or with
// VK_ERROR_OUT_OF_DEVICE_MEMORY if $VK_ORCH_LOSE_DEVICE_TO is "memory". Without the variables it changes nothing. Test
// code only; one driver at a time.
#include <unistd.h>
#include <vulkan/vk_layer.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

PFN_vkGetInstanceProcAddr next_instance = nullptr;
PFN_vkGetDeviceProcAddr next_device = nullptr;
PFN_vkQueueSubmit next_submit = nullptr;
std::atomic<long> submissions{0};
std::atomic<bool> lost{false};

template <typename Link>
Link* link_of(const void* chain, VkStructureType type) {
  for (auto* at = const_cast<Link*>(static_cast<const Link*>(chain)); at != nullptr;
       at = const_cast<Link*>(static_cast<const Link*>(at->pNext))) {
    if (at->sType == type && at->function == VK_LAYER_LINK_INFO) return at;
  }
  return nullptr;
}

VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo* info, const VkAllocationCallbacks* allocator,
                                               VkInstance* instance) {
  auto* link = link_of<VkLayerInstanceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
  if (link == nullptr) return VK_ERROR_INITIALIZATION_FAILED;
  next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const auto create = reinterpret_cast<PFN_vkCreateInstance>(next_instance(VK_NULL_HANDLE, "vkCreateInstance"));
  return create(info, allocator, instance);
}

VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo* info,
                                             const VkAllocationCallbacks* allocator, VkDevice* device) {
  auto* link = link_of<VkLayerDeviceCreateInfo>(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
  if (link == nullptr) return VK_ERROR_INITIALIZATION_FAILED;
  const auto instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  const auto create = reinterpret_cast<PFN_vkCreateDevice>(instance(VK_NULL_HANDLE, "vkCreateDevice"));
  const VkResult result = create(physical, info, allocator, device);
  if (result != VK_SUCCESS) return result;
  next_submit = reinterpret_cast<PFN_vkQueueSubmit>(next_device(*device, "vkQueueSubmit"));
  submissions = 0;
  lost = false;
  return result;
}

VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, std::uint32_t count, const VkSubmitInfo* infos, VkFence fence) {
  const char* limit = std::getenv("VK_ORCH_LOSE_DEVICE_AFTER");
  if (limit != nullptr && ++submissions > std::atol(limit)) lost = true;
  const char* file = std::getenv("VK_ORCH_LOSE_DEVICE_FILE");
  if (file != nullptr && ::access(file, F_OK) == 0) lost = true;
  if (!lost) return next_submit(queue, count, infos, fence);
  const char* to = std::getenv("VK_ORCH_LOSE_DEVICE_TO");
  return to != nullptr && std::strcmp(to, "memory") == 0 ? VK_ERROR_OUT_OF_DEVICE_MEMORY : VK_ERROR_DEVICE_LOST;
}

PFN_vkVoidFunction own(const char* name);

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_function(VkDevice device, const char* name) {
  const PFN_vkVoidFunction mine = own(name);
  return mine != nullptr ? mine : next_device(device, name);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_function(VkInstance instance, const char* name) {
  const PFN_vkVoidFunction mine = own(name);
  return mine != nullptr ? mine : next_instance(instance, name);
}

PFN_vkVoidFunction own(const char* name) {
  const auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
  if (is("vkGetInstanceProcAddr")) return reinterpret_cast<PFN_vkVoidFunction>(instance_function);
  if (is("vkGetDeviceProcAddr")) return reinterpret_cast<PFN_vkVoidFunction>(device_function);
  if (is("vkCreateInstance")) return reinterpret_cast<PFN_vkVoidFunction>(create_instance);
  if (is("vkCreateDevice")) return reinterpret_cast<PFN_vkVoidFunction>(create_device);
  if (is("vkQueueSubmit")) return reinterpret_cast<PFN_vkVoidFunction>(submit);
  return nullptr;
}

}  // namespace

extern "C" VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface* interface) {
  if (interface->loaderLayerInterfaceVersion < 2) return VK_ERROR_INITIALIZATION_FAILED;
  interface->loaderLayerInterfaceVersion = 2;
  interface->pfnGetInstanceProcAddr = instance_function;
  interface->pfnGetDeviceProcAddr = device_function;
  interface->pfnGetPhysicalDeviceProcAddr = nullptr;
  return VK_SUCCESS;
}
