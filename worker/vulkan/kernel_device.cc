#include "worker/vulkan/kernel_device.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "worker/vulkan/vulkan_result.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint64_t kStagingBytes = 16ULL << 20U;
// A step of 256 rows on a software device with busy cores takes seconds; past this the device is gone.
constexpr std::uint64_t kRunTimeoutNs = 300ULL * 1'000'000'000ULL;
constexpr std::uint32_t kWidthMax = 64;       // attention.comp, kWidthMax
constexpr std::uint32_t kRowsPerGroup = 32;   // weight rows of a matmul workgroup: two tiles
constexpr std::uint32_t kRowsPerLaneMax = 4;  // matmul_quant.comp
constexpr std::uint32_t kKeysPerPass = 32;    // one page
constexpr std::uint32_t kRecordTexels = 5;    // matmul_quant.comp: lanes needed to hold one record
// Each further row of a step, and each split of 256 keys, is done again by every workgroup of a matmul, where a
// dispatch of its own spreads it over the device: beyond these that costs more than a dispatch. README.md has the sum.
constexpr OwnInputLimits kHardwareOwnInputs{.rows = 1, .splits = 4};

}  // namespace

Tuning tuning_for(const PhysicalDeviceFacts& facts) {
  Tuning tuning;
  tuning.width = std::clamp<std::uint32_t>(std::bit_floor(std::max(facts.entry.subgroup_size, 1U)), 4, kWidthMax);
  tuning.rows_per_lane = std::clamp(kRowsPerGroup / tuning.width, 1U, kRowsPerLaneMax);
  tuning.keys_per_lane = std::max(kKeysPerPass / tuning.width, 1U);
  const bool one_subgroup = tuning.width == facts.entry.subgroup_size;
  tuning.shuffle = facts.entry.software && facts.shuffle && one_subgroup && tuning.width >= kRecordTexels ? 1 : 0;
  tuning.shared_bytes = facts.shared_bytes_max;
  if (!facts.entry.software) tuning.own_inputs = kHardwareOwnInputs;
  return tuning;
}

Result<std::unique_ptr<KernelDevice>, VulkanError> KernelDevice::Create(const KernelDeviceOptions& options) {
  std::unique_ptr<KernelDevice> device(new KernelDevice());
  ORCH_TRY(opened, device->open(options));
  static_cast<void>(opened);
  return device;
}

Status<VulkanError> KernelDevice::open(const KernelDeviceOptions& options) {
  kernels_ = options.kernels;
  auto instance = Instance::Create(options.validation);
  if (!instance.ok()) return Err{instance.error()};
  instance_ = std::move(instance).value();
  const std::vector<VkPhysicalDevice> physical = instance_->physical_devices();
  std::vector<PhysicalDeviceFacts> facts;
  std::vector<VulkanDeviceEntry> entries;
  for (VkPhysicalDevice candidate : physical) {
    facts.push_back(inspect(candidate, static_cast<std::uint32_t>(facts.size())));
    entries.push_back(facts.back().entry);
  }
  ORCH_TRY(chosen, select_vulkan_device(entries, options.device));
  auto device = Device::Create(physical[chosen.index], facts[chosen.index]);
  if (!device.ok()) return Err{device.error()};
  device_ = std::move(device).value();
  tuning_ = tuning_for(device_->facts());
  tuning_.own_inputs = options.own_inputs.value_or(tuning_.own_inputs);
  tuning_.shared_bytes = options.shared_bytes.value_or(tuning_.shared_bytes);
  auto layout = BindingLayout::Create(*device_);
  if (!layout.ok()) return Err{layout.error()};
  layout_ = std::move(layout).value();
  const PhysicalDeviceFacts& mine = device_->facts();
  cache_file_ = std::make_unique<PipelineCacheFile>(
      options.pipeline_cache_directory,
      PipelineCacheKey{mine.entry.uuid, mine.driver_uuid, mine.cache_uuid, kernels_digest(kernels_)});
  kept_pipelines_ = cache_file_->read();
  auto cache = PipelineCache::Create(*device_, kept_pipelines_);
  if (!cache.ok()) return Err{cache.error()};
  cache_ = std::move(cache).value();
  auto pool = BindingPool::Create(*device_, *layout_);
  if (!pool.ok()) return Err{pool.error()};
  pool_ = std::move(pool).value();
  return options.compiles_only ? Status<VulkanError>(Ok{}) : open_memory();
}

Status<VulkanError> KernelDevice::open_memory() {
  auto device_memory = MemoryArena::Create(*device_, MemoryUse::device);
  if (!device_memory.ok()) return Err{device_memory.error()};
  device_memory_ = std::move(device_memory).value();
  auto host_memory = MemoryArena::Create(*device_, MemoryUse::host);
  if (!host_memory.ok()) return Err{host_memory.error()};
  host_memory_ = std::move(host_memory).value();
  auto copier = make_recorder();
  if (!copier.ok()) return Err{copier.error()};
  copier_ = std::move(copier).value();
  return Ok{};
}

Result<std::unique_ptr<DeviceBuffer>, VulkanError> KernelDevice::make_buffer(MemoryUse use, const char* name,
                                                                             std::uint64_t bytes) {
  return DeviceBuffer::Create(*device_, use == MemoryUse::device ? *device_memory_ : *host_memory_, name, bytes);
}

Result<std::unique_ptr<DeviceBuffer>, VulkanError> KernelDevice::make_written_buffer(MemoryUse use, const char* name,
                                                                                     std::uint64_t bytes) {
  if (bytes > facts().storage_range_max) {
    return Err{VulkanError{VulkanErrorKind::out_of_memory,
                           std::string(name) + " of " + std::to_string(bytes) + " bytes exceeds the " +
                               std::to_string(facts().storage_range_max) +
                               " bytes that a kernel may write through one binding on " + facts().entry.name}};
  }
  return make_buffer(use, name, bytes);
}

Result<DeviceBuffer*, VulkanError> KernelDevice::staging() {
  if (staging_ == nullptr) {
    auto made = make_buffer(MemoryUse::host, "the staging buffer", kStagingBytes);
    if (!made.ok()) return Err{made.error()};
    staging_ = std::move(made).value();
  }
  return staging_.get();
}

Status<VulkanError> KernelDevice::copy_now(const DeviceBuffer& source, std::uint64_t source_offset,
                                           const DeviceBuffer& target, std::uint64_t target_offset,
                                           std::uint64_t bytes) {
  ORCH_TRY(begun, copier_->begin());
  static_cast<void>(begun);
  copier_->copy(source, source_offset, target, target_offset, bytes);
  copier_->host_barrier();
  ORCH_TRY(ended, copier_->end());
  static_cast<void>(ended);
  return run(*copier_);
}

Status<VulkanError> KernelDevice::write(DeviceBuffer& target, std::uint64_t offset, std::span<const std::byte> bytes) {
  ORCH_CHECK(offset + bytes.size() <= target.size());
  if (target.mapped() != nullptr) {
    if (!bytes.empty()) std::memcpy(target.mapped() + offset, bytes.data(), bytes.size());
    return Ok{};
  }
  ORCH_TRY(stage, staging());
  for (std::size_t at = 0; at < bytes.size(); at += kStagingBytes) {
    const std::size_t piece = std::min<std::size_t>(kStagingBytes, bytes.size() - at);
    std::memcpy(stage->mapped(), bytes.data() + at, piece);
    ORCH_TRY(copied, copy_now(*stage, 0, target, offset + at, piece));
    static_cast<void>(copied);
  }
  return Ok{};
}

Status<VulkanError> KernelDevice::read(DeviceBuffer& source, std::uint64_t offset, std::span<std::byte> bytes) {
  ORCH_CHECK(offset + bytes.size() <= source.size());
  if (source.mapped() != nullptr) {
    if (!bytes.empty()) std::memcpy(bytes.data(), source.mapped() + offset, bytes.size());
    return Ok{};
  }
  ORCH_TRY(stage, staging());
  for (std::size_t at = 0; at < bytes.size(); at += kStagingBytes) {
    const std::size_t piece = std::min<std::size_t>(kStagingBytes, bytes.size() - at);
    ORCH_TRY(copied, copy_now(source, offset + at, *stage, 0, piece));
    static_cast<void>(copied);
    std::memcpy(bytes.data() + at, stage->mapped(), piece);
  }
  return Ok{};
}

Result<const ComputePipeline*, VulkanError> KernelDevice::pipeline(const KernelVariant& variant) {
  auto& slot = pipelines_[variant];
  if (slot == nullptr) {
    SpirvWords code = kernels_.of(variant.kernel);
    std::vector<std::uint32_t> plain;
    if (!facts().rte_float32) {
      plain = without_rounding_mode(code);
      code = plain;
    }
    std::vector<std::uint32_t> constants{tuning_.width};
    constants.insert(constants.end(), variant.constants.begin(), variant.constants.end());
    auto made = ComputePipeline::Create(*device_, *cache_, *layout_, code, constants);
    if (!made.ok()) return Err{made.error()};
    slot = std::move(made).value();
  }
  return slot.get();
}

std::vector<KernelVariant> KernelDevice::compiled() const {
  std::vector<KernelVariant> variants;
  variants.reserve(pipelines_.size());
  for (const auto& entry : pipelines_) variants.push_back(entry.first);
  return variants;
}

void KernelDevice::keep_pipelines() {
  if (cache_file_->path().empty()) return;
  std::vector<std::byte> bytes = cache_->bytes();
  if (bytes == kept_pipelines_ || !cache_file_->write(bytes)) return;
  kept_pipelines_ = std::move(bytes);
}

Status<VulkanError> KernelDevice::run(const CommandRecorder& recorder) {
  return device_->run(recorder.handle(), kRunTimeoutNs);
}

}  // namespace orch::worker::vulkan
