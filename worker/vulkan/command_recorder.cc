#include "worker/vulkan/command_recorder.h"

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {
namespace {

constexpr VkPipelineStageFlags kWork = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
constexpr VkAccessFlags kWrites = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
constexpr VkAccessFlags kReads = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_TRANSFER_READ_BIT;

}  // namespace

Result<std::unique_ptr<CommandRecorder>, VulkanError> CommandRecorder::Create(Device& device,
                                                                              const BindingLayout& layout) {
  std::unique_ptr<CommandRecorder> recorder(new CommandRecorder(device, layout));
  VkCommandPoolCreateInfo pool{};
  pool.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
  pool.queueFamilyIndex = device.facts().compute_family;
  VkResult result = vkCreateCommandPool(device.handle(), &pool, nullptr, &recorder->pool_);
  if (result != VK_SUCCESS) return failure("creating a command pool", result);
  VkCommandBufferAllocateInfo allocate{};
  allocate.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
  allocate.commandPool = recorder->pool_;
  allocate.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  allocate.commandBufferCount = 1;
  result = vkAllocateCommandBuffers(device.handle(), &allocate, &recorder->commands_);
  if (result != VK_SUCCESS) return failure("allocating a command buffer", result);
  return recorder;
}

CommandRecorder::~CommandRecorder() {
  if (pool_ != VK_NULL_HANDLE) vkDestroyCommandPool(device_.handle(), pool_, nullptr);
}

Status<VulkanError> CommandRecorder::begin() {
  VkResult result = vkResetCommandPool(device_.handle(), pool_, 0);
  if (result != VK_SUCCESS) return failure("resetting a command pool", result);
  VkCommandBufferBeginInfo info{};
  info.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
  result = vkBeginCommandBuffer(commands_, &info);
  if (result != VK_SUCCESS) return failure("recording commands", result);
  bound_ = VK_NULL_HANDLE;
  return Ok{};
}

Status<VulkanError> CommandRecorder::end() {
  const VkResult result = vkEndCommandBuffer(commands_);
  if (result != VK_SUCCESS) return failure("recording commands", result);
  return Ok{};
}

void CommandRecorder::bind(const Invocation& invocation) {
  if (bound_ != invocation.pipeline->handle()) {
    vkCmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, invocation.pipeline->handle());
    bound_ = invocation.pipeline->handle();
  }
  ORCH_CHECK(invocation.push.size() <= kPushBytesMax && invocation.push.size() % 4 == 0);
  vkCmdBindDescriptorSets(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, layout_.pipeline_layout(), 0, 1, &invocation.set,
                          0, nullptr);
  vkCmdPushConstants(commands_, layout_.pipeline_layout(), VK_SHADER_STAGE_COMPUTE_BIT, 0,
                     static_cast<std::uint32_t>(invocation.push.size()), invocation.push.data());
}

void CommandRecorder::dispatch(const Invocation& invocation, GroupCount groups) {
  bind(invocation);
  vkCmdDispatch(commands_, groups.x, groups.y, groups.z);
}

void CommandRecorder::dispatch_indirect(const Invocation& invocation, const DeviceBuffer& arguments,
                                        VkDeviceSize offset) {
  bind(invocation);
  vkCmdDispatchIndirect(commands_, arguments.handle(), offset);
}

void CommandRecorder::copy(const DeviceBuffer& source, VkDeviceSize source_offset, const DeviceBuffer& target,
                           VkDeviceSize target_offset, VkDeviceSize bytes) {
  const VkBufferCopy region{source_offset, target_offset, bytes};
  vkCmdCopyBuffer(commands_, source.handle(), target.handle(), 1, &region);
}

void CommandRecorder::barrier() {
  VkMemoryBarrier memory{};
  memory.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  memory.srcAccessMask = kWrites;
  memory.dstAccessMask = kReads | kWrites;
  vkCmdPipelineBarrier(commands_, kWork, kWork, 0, 1, &memory, 0, nullptr, 0, nullptr);
}

void CommandRecorder::host_barrier() {
  VkMemoryBarrier memory{};
  memory.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER;
  memory.srcAccessMask = kWrites;
  memory.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
  vkCmdPipelineBarrier(commands_, kWork, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &memory, 0, nullptr, 0, nullptr);
}

}  // namespace orch::worker::vulkan
