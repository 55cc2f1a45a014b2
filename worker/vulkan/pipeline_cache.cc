#include "worker/vulkan/pipeline_cache.h"

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<PipelineCache>, VulkanError> PipelineCache::Create(Device& device,
                                                                          std::span<const std::byte> earlier) {
  std::unique_ptr<PipelineCache> cache(new PipelineCache(device));
  VkPipelineCacheCreateInfo create{};
  create.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO;
  create.initialDataSize = earlier.size();
  create.pInitialData = earlier.data();
  const VkResult result = vkCreatePipelineCache(device.handle(), &create, nullptr, &cache->handle_);
  if (result != VK_SUCCESS) return failure("creating a pipeline cache", result);
  return cache;
}

std::vector<std::byte> PipelineCache::bytes() const {
  std::size_t size = 0;
  if (vkGetPipelineCacheData(device_.handle(), handle_, &size, nullptr) != VK_SUCCESS) return {};
  std::vector<std::byte> bytes(size);
  if (vkGetPipelineCacheData(device_.handle(), handle_, &size, bytes.data()) != VK_SUCCESS) return {};
  bytes.resize(size);
  return bytes;
}

PipelineCache::~PipelineCache() {
  if (handle_ != VK_NULL_HANDLE) vkDestroyPipelineCache(device_.handle(), handle_, nullptr);
}

}  // namespace orch::worker::vulkan
