// A command buffer that is recorded once and run many times, with its pool.
// Threads: as Device. Recording: begin(), commands, end(); then Device::run(handle()).
#pragma once

#include <memory>
#include <span>

#include <vulkan/vulkan_core.h>

#include "worker/vulkan/compute_pipeline.h"
#include "worker/vulkan/device.h"
#include "worker/vulkan/device_buffer.h"

namespace orch::worker::vulkan {

struct GroupCount {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t z = 1;
};

// What a dispatch runs and on what. Views: used during the call only.
struct Invocation {
  const ComputePipeline* pipeline = nullptr;
  VkDescriptorSet set = VK_NULL_HANDLE;
  std::span<const std::byte> push;
};

class CommandRecorder {
 public:
  static Result<std::unique_ptr<CommandRecorder>, VulkanError> Create(Device& device, const BindingLayout& layout);
  ~CommandRecorder();
  CommandRecorder(const CommandRecorder&) = delete;
  CommandRecorder& operator=(const CommandRecorder&) = delete;

  VkCommandBuffer handle() const { return commands_; }

  Status<VulkanError> begin();  // drops what was recorded
  Status<VulkanError> end();

  void dispatch(const Invocation& invocation, GroupCount groups);
  // The group counts are read from `arguments` at `offset` when the command runs.
  void dispatch_indirect(const Invocation& invocation, const DeviceBuffer& arguments, VkDeviceSize offset);
  void copy(const DeviceBuffer& source, VkDeviceSize source_offset, const DeviceBuffer& target,
            VkDeviceSize target_offset, VkDeviceSize bytes);
  // Everything written by kernels and copies so far is seen by later ones.
  void barrier();
  // Everything written by kernels and copies so far is seen by the host after the fence.
  void host_barrier();

 private:
  CommandRecorder(Device& device, const BindingLayout& layout) : device_(device), layout_(layout) {}
  void bind(const Invocation& invocation);

  Device& device_;
  const BindingLayout& layout_;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  VkPipeline bound_ = VK_NULL_HANDLE;
};

}  // namespace orch::worker::vulkan
