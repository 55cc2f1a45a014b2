#include "worker/vulkan/compute_pipeline.h"

#include <vector>

#include "worker/vulkan/shader_module.h"
#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<ComputePipeline>, VulkanError> ComputePipeline::Create(
    Device& device, PipelineCache& cache, const BindingLayout& layout, std::span<const std::uint32_t> spirv,
    std::span<const std::uint32_t> constants) {
  std::unique_ptr<ComputePipeline> pipeline(new ComputePipeline(device));
  ORCH_TRY(shader, ShaderModule::Create(device, spirv));
  std::vector<VkSpecializationMapEntry> entries;
  for (std::uint32_t i = 0; i < constants.size(); ++i) entries.push_back({i, i * 4U, 4U});
  VkSpecializationInfo specialization{};
  specialization.mapEntryCount = static_cast<std::uint32_t>(entries.size());
  specialization.pMapEntries = entries.data();
  specialization.dataSize = constants.size_bytes();
  specialization.pData = constants.data();

  VkComputePipelineCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
  create.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  create.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  create.stage.module = shader->handle();
  create.stage.pName = "main";
  create.stage.pSpecializationInfo = &specialization;
  create.layout = layout.pipeline_layout();
  const VkResult result =
      vkCreateComputePipelines(device.handle(), cache.handle(), 1, &create, nullptr, &pipeline->handle_);
  if (result != VK_SUCCESS) return failure("compiling a kernel for " + device.facts().entry.name, result);
  return pipeline;
}

ComputePipeline::~ComputePipeline() {
  if (handle_ != VK_NULL_HANDLE) vkDestroyPipeline(device_.handle(), handle_, nullptr);
}

}  // namespace orch::worker::vulkan
