// What a device costs apart from any model: empty dispatches, reading and copying its memory, bytes from and to the
// host. For the tool `vulkan_facts`. Times are the host's, submission and fence included; of several runs. Threads: one
// at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/vulkan/kernel_device.h"

namespace orch::worker::vulkan {

// Of several runs, in the measured unit.
struct Spread {
  double least = 0;
  double median = 0;
  double most = 0;
  std::size_t runs = 0;
};

Spread spread_of(std::vector<double> values);

struct DispatchCost {
  Spread run_us;         // one submission with all dispatches
  double record_us = 0;  // recording them, once
};

enum class Between : std::uint8_t { nothing, barriers };
enum class ReadPath : std::uint8_t { texels, storage };

class DeviceTimer {
 public:
  // `bytes` of device memory are read, and copied by halves; rounded down to whole buffers, at least two.
  static Result<std::unique_ptr<DeviceTimer>, VulkanError> Create(const VulkanSelection& selection,
                                                                  std::uint64_t bytes);

  const PhysicalDeviceFacts& facts() const { return device_->facts(); }
  const Tuning& tuning() const { return device_->tuning(); }
  std::uint64_t bytes() const { return buffers_.size() * buffer_bytes_; }

  Result<DispatchCost, VulkanError> empty_dispatches(std::uint32_t count, Between between);
  // Bytes per second. `driver` when the sums of what was read are wrong.
  Result<Spread, VulkanError> read_rate(ReadPath path);
  Result<Spread, VulkanError> copy_rate();  // bytes read and written
  Result<Spread, VulkanError> upload_rate();
  Result<Spread, VulkanError> download_rate();

 private:
  DeviceTimer() = default;
  Status<VulkanError> make_buffers(std::uint64_t bytes);
  Status<VulkanError> record_reads(CommandRecorder& recorder, ReadPath path, std::uint32_t passes);
  Status<VulkanError> check_sums();
  Result<Spread, VulkanError> timed_runs(const CommandRecorder& recorder, double unit_per_run);

  std::unique_ptr<KernelDevice> device_;
  std::uint64_t buffer_bytes_ = 0;
  std::uint32_t groups_ = 0;  // workgroups that read one buffer
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
  std::unique_ptr<DeviceBuffer> sums_;  // one word a lane and buffer
  std::vector<std::byte> pattern_;      // what each buffer repeats
  std::uint32_t pattern_sum_ = 0;
};

}  // namespace orch::worker::vulkan
