#include "worker/vulkan/device_timing.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <string>

#include "gen/kernels/timing_nothing.h"
#include "gen/kernels/timing_read_storage.h"
#include "gen/kernels/timing_read_texels.h"

namespace orch::worker::vulkan {
namespace {

// Places in the set of kernels that nothing else of this device asks for.
constexpr Kernel kNothing = Kernel::embed;
constexpr Kernel kReadTexels = Kernel::norm;
constexpr Kernel kReadStorage = Kernel::prepare;

constexpr std::uint64_t kPatternBytes = 4ULL << 20U;
constexpr std::uint64_t kBufferBytesMax = 128ULL << 20U;
constexpr std::uint32_t kPieceBytes = 16;
// Enough lanes to keep a large GPU's memory busy; a software device runs workgroups one after another.
constexpr std::uint32_t kHardwareGroups = 4096;
constexpr std::uint32_t kSoftwareGroups = 64;
constexpr std::uint32_t kHardwarePasses = 8;  // in one submission, so that its own cost is small beside them
constexpr std::size_t kRunsMax = 30;
constexpr std::size_t kRunsMin = 3;
constexpr double kSecondsMax = 2;  // of one figure, once it has its least number of runs

struct ReadPush {
  std::uint32_t pieces, first_sum;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Seconds of each run of `once`; the first one warms up.
template <typename Once>
Result<std::vector<double>, VulkanError> seconds_of(const Once& once) {
  std::vector<double> seconds;
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t run = 0; run <= kRunsMax; ++run) {
    if (run > kRunsMin && seconds_since(begin) > kSecondsMax) break;
    const auto start = std::chrono::steady_clock::now();
    if (Status<VulkanError> done = once(); !done.ok()) return Err{done.error()};
    if (run > 0) seconds.push_back(seconds_since(start));
  }
  return seconds;
}

Spread rates(const std::vector<double>& seconds, double amount) {
  std::vector<double> out;
  out.reserve(seconds.size());
  for (const double s : seconds) out.push_back(amount / s);
  return spread_of(std::move(out));
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {values.front(), values[values.size() / 2], values.back(), values.size()};
}

Result<std::unique_ptr<DeviceTimer>, VulkanError> DeviceTimer::Create(const VulkanSelection& selection,
                                                                      std::uint64_t bytes) {
  std::unique_ptr<DeviceTimer> timer(new DeviceTimer());
  KernelDeviceOptions options;
  options.device = selection;
  options.kernels.code[static_cast<std::size_t>(kNothing)] = SpirvWords(timing_nothing);
  options.kernels.code[static_cast<std::size_t>(kReadTexels)] = SpirvWords(timing_read_texels);
  options.kernels.code[static_cast<std::size_t>(kReadStorage)] = SpirvWords(timing_read_storage);
  auto device = KernelDevice::Create(options);
  if (!device.ok()) return Err{device.error()};
  timer->device_ = std::move(device).value();
  if (Status<VulkanError> made = timer->make_buffers(bytes); !made.ok()) return Err{made.error()};
  return timer;
}

Status<VulkanError> DeviceTimer::make_buffers(std::uint64_t bytes) {
  const PhysicalDeviceFacts& facts = device_->facts();
  groups_ = facts.entry.software ? kSoftwareGroups : kHardwareGroups;
  const std::uint64_t reachable =
      std::min<std::uint64_t>({kBufferBytesMax, facts.storage_range_max, facts.texels_max * kPieceBytes, bytes / 2});
  buffer_bytes_ = std::max(reachable / kPatternBytes, std::uint64_t{1}) * kPatternBytes;

  std::vector<std::uint32_t> words(kPatternBytes / sizeof(std::uint32_t));
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(i * 2654435761U);
  pattern_sum_ = std::accumulate(words.begin(), words.end(), 0U);
  pattern_.resize(kPatternBytes);
  std::memcpy(pattern_.data(), words.data(), kPatternBytes);

  const std::uint64_t count = std::max<std::uint64_t>(bytes / buffer_bytes_, 2);
  for (std::uint64_t i = 0; i < count; ++i) {
    auto made = device_->make_written_buffer(MemoryUse::device, "a timed buffer", buffer_bytes_);
    if (!made.ok()) return Err{made.error()};
    buffers_.push_back(std::move(made).value());
    for (std::uint64_t at = 0; at < buffer_bytes_; at += kPatternBytes) {
      if (auto written = device_->write(*buffers_.back(), at, pattern_); !written.ok()) return Err{written.error()};
    }
  }
  const std::uint64_t lanes = count * groups_ * device_->tuning().width;
  auto sums = device_->make_written_buffer(MemoryUse::device, "the sums", lanes * sizeof(std::uint32_t));
  if (!sums.ok()) return Err{sums.error()};
  sums_ = std::move(sums).value();
  return Ok{};
}

Result<Spread, VulkanError> DeviceTimer::timed_runs(const CommandRecorder& recorder, double unit_per_run) {
  auto seconds = seconds_of([&] { return device_->run(recorder); });
  if (!seconds.ok()) return Err{seconds.error()};
  return rates(seconds.value(), unit_per_run);
}

Result<DispatchCost, VulkanError> DeviceTimer::empty_dispatches(std::uint32_t count, Between between) {
  ORCH_TRY(pipeline, device_->pipeline({kNothing, {}}));
  Bindings bindings;
  bindings.writes[0] = sums_->handle();
  ORCH_TRY(set, device_->bind(bindings));
  ORCH_TRY(recorder, device_->make_recorder());
  const std::vector<std::byte> push(sizeof(std::uint32_t));
  const auto start = std::chrono::steady_clock::now();
  if (auto begun = recorder->begin(); !begun.ok()) return Err{begun.error()};
  for (std::uint32_t i = 0; i < count; ++i) {
    recorder->dispatch({pipeline, set, push}, {});
    if (between == Between::barriers) recorder->barrier();
  }
  if (auto ended = recorder->end(); !ended.ok()) return Err{ended.error()};
  DispatchCost cost;
  cost.record_us = seconds_since(start) * 1e6;
  auto seconds = seconds_of([&] { return device_->run(*recorder); });
  if (!seconds.ok()) return Err{seconds.error()};
  std::vector<double> micros;
  micros.reserve(seconds->size());
  for (const double s : seconds.value()) micros.push_back(s * 1e6);
  cost.run_us = spread_of(std::move(micros));
  return cost;
}

Status<VulkanError> DeviceTimer::record_reads(CommandRecorder& recorder, ReadPath path, std::uint32_t passes) {
  ORCH_TRY(pipeline, device_->pipeline({path == ReadPath::texels ? kReadTexels : kReadStorage, {}}));
  std::vector<VkDescriptorSet> sets;
  sets.reserve(buffers_.size());
  for (const auto& buffer : buffers_) {
    Bindings bindings;
    bindings.writes[0] = sums_->handle();
    if (path == ReadPath::texels) {
      bindings.reads[1] = buffer->texels();
    } else {
      bindings.writes[1] = buffer->handle();
    }
    ORCH_TRY(set, device_->bind(bindings));
    sets.push_back(set);
  }
  if (auto begun = recorder.begin(); !begun.ok()) return begun;
  for (std::uint32_t pass = 0; pass < passes; ++pass) {
    for (std::uint32_t i = 0; i < sets.size(); ++i) {
      const ReadPush push{static_cast<std::uint32_t>(buffer_bytes_ / kPieceBytes),
                          i * groups_ * device_->tuning().width};
      recorder.dispatch({pipeline, sets[i], bytes_of(push)}, {groups_, 1, 1});
    }
    recorder.barrier();
  }
  recorder.host_barrier();
  return recorder.end();
}

Status<VulkanError> DeviceTimer::check_sums() {
  std::vector<std::uint32_t> sums(sums_->size() / sizeof(std::uint32_t));
  if (auto got = device_->read(*sums_, 0, std::as_writable_bytes(std::span(sums))); !got.ok()) return got;
  const auto lanes = std::ptrdiff_t{groups_} * device_->tuning().width;
  const auto expected = static_cast<std::uint32_t>(buffer_bytes_ / kPatternBytes * pattern_sum_);
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    const auto first = sums.begin() + static_cast<std::ptrdiff_t>(i) * lanes;
    const std::uint32_t sum = std::accumulate(first, first + lanes, 0U);
    if (sum == expected) continue;
    return Err{VulkanError{VulkanErrorKind::driver, "reading a timed buffer gave the sum " + std::to_string(sum) +
                                                        ", expected " + std::to_string(expected)}};
  }
  return Ok{};
}

Result<Spread, VulkanError> DeviceTimer::read_rate(ReadPath path) {
  ORCH_TRY(recorder, device_->make_recorder());
  const std::uint32_t passes = device_->facts().entry.software ? 1 : kHardwarePasses;
  if (auto recorded = record_reads(*recorder, path, passes); !recorded.ok()) return Err{recorded.error()};
  auto rate = timed_runs(*recorder, static_cast<double>(bytes()) * passes);
  if (!rate.ok()) return rate;
  if (auto checked = check_sums(); !checked.ok()) return Err{checked.error()};
  return rate;
}

Result<Spread, VulkanError> DeviceTimer::copy_rate() {
  ORCH_TRY(recorder, device_->make_recorder());
  const std::uint32_t passes = device_->facts().entry.software ? 1 : kHardwarePasses;
  const std::size_t half = buffers_.size() / 2;
  if (auto begun = recorder->begin(); !begun.ok()) return Err{begun.error()};
  for (std::uint32_t pass = 0; pass < passes; ++pass) {
    for (std::size_t i = 0; i < half; ++i) recorder->copy(*buffers_[i], 0, *buffers_[half + i], 0, buffer_bytes_);
    recorder->barrier();
  }
  if (auto ended = recorder->end(); !ended.ok()) return Err{ended.error()};
  return timed_runs(*recorder, 2.0 * static_cast<double>(half * buffer_bytes_) * passes);
}

Result<Spread, VulkanError> DeviceTimer::upload_rate() {
  const auto once = [&] {
    Status<VulkanError> done = Ok{};
    for (std::uint64_t at = 0; done.ok() && at < buffer_bytes_; at += kPatternBytes) {
      done = device_->write(*buffers_[0], at, pattern_);
    }
    return done;
  };
  auto seconds = seconds_of(once);
  if (!seconds.ok()) return Err{seconds.error()};
  return rates(seconds.value(), static_cast<double>(buffer_bytes_));
}

Result<Spread, VulkanError> DeviceTimer::download_rate() {
  std::vector<std::byte> target(buffer_bytes_);
  auto seconds = seconds_of([&] { return device_->read(*buffers_[0], 0, target); });
  if (!seconds.ok()) return Err{seconds.error()};
  if (std::memcmp(target.data(), pattern_.data(), pattern_.size()) != 0) {
    return Err{VulkanError{VulkanErrorKind::driver, "a timed buffer came back with other bytes"}};
  }
  return rates(seconds.value(), static_cast<double>(buffer_bytes_));
}

}  // namespace orch::worker::vulkan
