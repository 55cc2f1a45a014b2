#include "worker/vulkan/shader_module.h"

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<ShaderModule>, VulkanError> ShaderModule::Create(Device& device,
                                                                        std::span<const std::uint32_t> words) {
  std::unique_ptr<ShaderModule> shader(new ShaderModule(device));
  VkShaderModuleCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO;
  create.codeSize = words.size_bytes();
  create.pCode = words.data();
  const VkResult result = vkCreateShaderModule(device.handle(), &create, nullptr, &shader->handle_);
  if (result != VK_SUCCESS)
    return failure("creating a shader module of " + std::to_string(words.size()) + " words", result);
  return shader;
}

ShaderModule::~ShaderModule() {
  if (handle_ != VK_NULL_HANDLE) vkDestroyShaderModule(device_.handle(), handle_, nullptr);
}

}  // namespace orch::worker::vulkan
