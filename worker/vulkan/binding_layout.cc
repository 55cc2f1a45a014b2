#include "worker/vulkan/binding_layout.h"

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<BindingLayout>, VulkanError> BindingLayout::Create(Device& device) {
  std::unique_ptr<BindingLayout> layout(new BindingLayout(device));
  std::array<VkDescriptorSetLayoutBinding, kReadBindings + kWriteBindings> bindings{};
  for (std::uint32_t i = 0; i < bindings.size(); ++i) {
    bindings[i].binding = i;
    bindings[i].descriptorType =
        i < kReadBindings ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    bindings[i].descriptorCount = 1;
    bindings[i].stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
  }
  VkDescriptorSetLayoutCreateInfo set{};
  set.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO;
  set.bindingCount = bindings.size();
  set.pBindings = bindings.data();
  VkResult result = vkCreateDescriptorSetLayout(device.handle(), &set, nullptr, &layout->set_layout_);
  if (result != VK_SUCCESS) return failure("creating a descriptor set layout", result);
  VkPushConstantRange range{};
  range.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
  range.size = kPushBytesMax;
  VkPipelineLayoutCreateInfo pipeline{};
  pipeline.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO;
  pipeline.setLayoutCount = 1;
  pipeline.pSetLayouts = &layout->set_layout_;
  pipeline.pushConstantRangeCount = 1;
  pipeline.pPushConstantRanges = &range;
  result = vkCreatePipelineLayout(device.handle(), &pipeline, nullptr, &layout->pipeline_layout_);
  if (result != VK_SUCCESS) return failure("creating a pipeline layout", result);
  return layout;
}

BindingLayout::~BindingLayout() {
  if (pipeline_layout_ != VK_NULL_HANDLE) vkDestroyPipelineLayout(device_.handle(), pipeline_layout_, nullptr);
  if (set_layout_ != VK_NULL_HANDLE) vkDestroyDescriptorSetLayout(device_.handle(), set_layout_, nullptr);
}

}  // namespace orch::worker::vulkan
