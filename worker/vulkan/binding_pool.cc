#include "worker/vulkan/binding_pool.h"

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint32_t kSetsPerPool = 256;

}  // namespace

Result<std::unique_ptr<BindingPool>, VulkanError> BindingPool::Create(Device& device, const BindingLayout& layout) {
  return std::unique_ptr<BindingPool>(new BindingPool(device, layout));
}

BindingPool::~BindingPool() {
  for (VkDescriptorPool pool : pools_) vkDestroyDescriptorPool(device_.handle(), pool, nullptr);
}

Status<VulkanError> BindingPool::grow() {
  const std::array sizes{
      VkDescriptorPoolSize{VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, kSetsPerPool * kReadBindings},
      VkDescriptorPoolSize{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, kSetsPerPool * kWriteBindings},
  };
  VkDescriptorPoolCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO;
  create.maxSets = kSetsPerPool;
  create.poolSizeCount = sizes.size();
  create.pPoolSizes = sizes.data();
  VkDescriptorPool pool = VK_NULL_HANDLE;
  const VkResult result = vkCreateDescriptorPool(device_.handle(), &create, nullptr, &pool);
  if (result != VK_SUCCESS) return failure("creating a descriptor pool", result);
  pools_.push_back(pool);
  left_ = kSetsPerPool;
  return Ok{};
}

Result<VkDescriptorSet, VulkanError> BindingPool::make(const Bindings& bindings) {
  if (left_ == 0) {
    ORCH_TRY(grown, grow());
    static_cast<void>(grown);
  }
  VkDescriptorSetAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO;
  allocate.descriptorPool = pools_.back();
  allocate.descriptorSetCount = 1;
  const VkDescriptorSetLayout layout = layout_.set_layout();
  allocate.pSetLayouts = &layout;
  VkDescriptorSet set = VK_NULL_HANDLE;
  const VkResult result = vkAllocateDescriptorSets(device_.handle(), &allocate, &set);
  if (result != VK_SUCCESS) return failure("allocating a descriptor set", result);
  --left_;

  std::vector<VkWriteDescriptorSet> writes;
  std::array<VkDescriptorBufferInfo, kWriteBindings> buffers{};
  for (std::uint32_t i = 0; i < kReadBindings + kWriteBindings; ++i) {
    VkWriteDescriptorSet write{};
    write.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
    write.dstSet = set;
    write.dstBinding = i;
    write.descriptorCount = 1;
    if (i < kReadBindings) {
      if (bindings.reads[i] == VK_NULL_HANDLE) continue;
      write.descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
      write.pTexelBufferView = &bindings.reads[i];
    } else {
      const std::uint32_t w = i - kReadBindings;
      if (bindings.writes[w] == VK_NULL_HANDLE) continue;
      buffers[w] = {bindings.writes[w], 0, VK_WHOLE_SIZE};
      write.descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
      write.pBufferInfo = &buffers[w];
    }
    writes.push_back(write);
  }
  vkUpdateDescriptorSets(device_.handle(), static_cast<std::uint32_t>(writes.size()), writes.data(), 0, nullptr);
  return set;
}

}  // namespace orch::worker::vulkan
