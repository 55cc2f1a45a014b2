// A device made ready to run kernels: memory, bindings and compiled pipelines. What the backend, the self-test and the
// kernel tests share. Threads: one at a time. Owns every Vulkan handle below it, destroyed in reverse order of
// creation.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "worker/vulkan/binding_layout.h"
#include "worker/vulkan/binding_pool.h"
#include "worker/vulkan/command_recorder.h"
#include "worker/vulkan/compute_pipeline.h"
#include "worker/vulkan/device.h"
#include "worker/vulkan/device_buffer.h"
#include "worker/vulkan/device_list.h"
#include "worker/vulkan/instance.h"
#include "worker/vulkan/kernel_set.h"
#include "worker/vulkan/kernel_variants.h"
#include "worker/vulkan/memory_arena.h"
#include "worker/vulkan/pipeline_cache.h"
#include "worker/vulkan/pipeline_cache_file.h"
#include "worker/vulkan/tuning.h"

namespace orch::worker::vulkan {

struct KernelDeviceOptions {
  VulkanSelection device;
  Validation validation = Validation::off;
  KernelSet kernels = embedded_kernels();
  bool compiles_only = false;            // no memory and no submissions; for drivers of hardware that is not there
  std::string pipeline_cache_directory;  // empty: compiled pipelines are not kept between starts
  // Instead of what suits the device, for tests and measurements.
  std::optional<OwnInputLimits> own_inputs;
  std::optional<std::uint32_t> shared_bytes;
};

class KernelDevice {
 public:
  static Result<std::unique_ptr<KernelDevice>, VulkanError> Create(const KernelDeviceOptions& options);
  KernelDevice(const KernelDevice&) = delete;
  KernelDevice& operator=(const KernelDevice&) = delete;

  const PhysicalDeviceFacts& facts() const { return device_->facts(); }
  const Tuning& tuning() const { return tuning_; }
  std::vector<std::string> validation_messages() const { return instance_->validation_messages(); }
  void forget_validation_messages() { instance_->forget_validation_messages(); }

  Result<std::unique_ptr<DeviceBuffer>, VulkanError> make_buffer(MemoryUse use, const char* name, std::uint64_t bytes);
  // As make_buffer for memory that a kernel writes: also inside the device's storage-buffer range.
  Result<std::unique_ptr<DeviceBuffer>, VulkanError> make_written_buffer(MemoryUse use, const char* name,
                                                                         std::uint64_t bytes);
  Status<VulkanError> write(DeviceBuffer& target, std::uint64_t offset, std::span<const std::byte> bytes);
  Status<VulkanError> read(DeviceBuffer& source, std::uint64_t offset, std::span<std::byte> bytes);

  // Compiled at the first call.
  Result<const ComputePipeline*, VulkanError> pipeline(const KernelVariant& variant);
  std::vector<KernelVariant> compiled() const;  // so far
  // Writes what was compiled to the cache file, when there is something new.
  void keep_pipelines();
  std::size_t pipeline_cache_bytes() const { return cache_->bytes().size(); }  // what the driver holds
  Result<VkDescriptorSet, VulkanError> bind(const Bindings& bindings) { return pool_->make(bindings); }
  Result<std::unique_ptr<CommandRecorder>, VulkanError> make_recorder() {
    return CommandRecorder::Create(*device_, *layout_);
  }
  Status<VulkanError> run(const CommandRecorder& recorder);

  std::uint64_t device_bytes() const { return device_memory_->bytes_taken(); }

 private:
  KernelDevice() = default;
  Status<VulkanError> open(const KernelDeviceOptions& options);
  Status<VulkanError> open_memory();
  Result<DeviceBuffer*, VulkanError> staging();
  Status<VulkanError> copy_now(const DeviceBuffer& source, std::uint64_t source_offset, const DeviceBuffer& target,
                               std::uint64_t target_offset, std::uint64_t bytes);

  std::unique_ptr<Instance> instance_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<BindingLayout> layout_;
  std::unique_ptr<PipelineCacheFile> cache_file_;
  std::vector<std::byte> kept_pipelines_;  // the file's content
  std::unique_ptr<PipelineCache> cache_;
  std::unique_ptr<BindingPool> pool_;
  std::unique_ptr<MemoryArena> device_memory_;
  std::unique_ptr<MemoryArena> host_memory_;
  std::unique_ptr<CommandRecorder> copier_;
  std::unique_ptr<DeviceBuffer> staging_;
  std::map<KernelVariant, std::unique_ptr<ComputePipeline>> pipelines_;
  KernelSet kernels_;
  Tuning tuning_;
};

}  // namespace orch::worker::vulkan
