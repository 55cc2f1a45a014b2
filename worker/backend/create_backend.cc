#include "worker/backend/create_backend.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/self_test.h"
#include "worker/cpu/thread_pool.h"
#include "worker/model/host_memory.h"
#ifdef ORCH_WITH_VULKAN
#include "worker/vulkan/device_list.h"
#include "worker/vulkan/vulkan_backend.h"
#endif

namespace orch::worker {
namespace {

constexpr std::uint32_t kThreadsMax = 256;
constexpr std::uint32_t kMemorySharersMax = 4096;  // pools of a host times replicas of a pool

ModelError refused(const char* field, std::string message, ModelErrorKind kind = ModelErrorKind::unsupported) {
  return {kind, field, std::move(message)};
}

bool names_vulkan(const std::string& device) { return device == "vulkan" || device.starts_with("vulkan:"); }

// OC-DEVICE-1005.
Result<const cpu::CpuKernels*, ModelError> choose_kernels(const std::string& isa) {
  if (isa == "scalar") return &cpu::scalar_kernels();
  if (isa == "auto") return &cpu::best_kernels();
  const bool wide = isa == "avx512vnni";
  if (isa != "avx2" && !wide) return Err{refused("isa", "'" + isa + "'; allowed: auto, scalar, avx2, avx512vnni")};
  const cpu::CpuKernels* kernels = wide ? cpu::avx512vnni_kernels() : cpu::avx2_kernels();
  if (kernels != nullptr) return kernels;
  return Err{refused(
      "isa",
      "'" + isa + "': this CPU or its system lacks " + (wide ? cpu::missing_for_avx512vnni() : cpu::missing_for_avx2()),
      ModelErrorKind::device_unavailable)};
}

Status<ModelError> check_options(const BackendOptions& options) {
  if (options.device != "auto" && options.device != "cpu" && !names_vulkan(options.device)) {
    return Err{refused("device", "'" + options.device + "'; allowed: auto, cpu, vulkan[:index|:uuid]")};
  }
  if (options.threads > kThreadsMax) {
    return Err{refused("threads", std::to_string(options.threads) + ", allowed: 0 to " + std::to_string(kThreadsMax))};
  }
  if (options.memory_sharers == 0 || options.memory_sharers > kMemorySharersMax) {
    return Err{refused("memory_sharers", std::to_string(options.memory_sharers) + ", allowed: 1 to " +
                                             std::to_string(kMemorySharersMax))};
  }
  ORCH_TRY(kernels, choose_kernels(options.isa));
  static_cast<void>(kernels);
  return Ok{};
}

Result<LoadedBackend, ModelError> create_on_cpu(const GgufFile& file, const BackendOptions& options,
                                                const std::function<void(float)>& progress) {
  ORCH_TRY(kernels, choose_kernels(options.isa));
  ORCH_TRY(tested, cpu::self_test(*kernels));
  static_cast<void>(tested);
  LoadedBackend loaded;
  ORCH_TRY(config, read_model_config(file));
  loaded.config = config;
  ORCH_TRY(memory,
           estimate_memory(config, repacked_weight_bytes(file), options, memory_budget(host_memory(), options)));
  loaded.memory = memory;
  auto model = load_model(file, progress, options.threads != 0 ? options.threads : cpu::usable_cores());
  if (!model.ok()) return Err{model.error()};
  cpu::CpuBackendOptions cpu_options;
  // DESIGN-RULES "Flow, health, edges": one core is left to the control plane unless configured.
  cpu_options.threads = options.threads != 0 ? options.threads : std::max(2U, cpu::usable_cores()) - 1;
  cpu_options.context = memory.context;
  cpu_options.pages = memory.pages;
  auto backend = cpu::create_cpu_backend(std::move(model).value(), *kernels, cpu_options);
  if (!backend.ok()) return Err{backend.error()};
  loaded.backend = std::move(backend).value();
  return loaded;
}

#ifdef ORCH_WITH_VULKAN

ModelError from_vulkan(const VulkanError& error) {
  switch (error.kind) {
    case VulkanErrorKind::out_of_memory:
      return refused("device", error.message, ModelErrorKind::memory);
    case VulkanErrorKind::unsupported_model:
      return refused("device", error.message, ModelErrorKind::unsupported);
    case VulkanErrorKind::no_driver:
    case VulkanErrorKind::device_not_found:
    case VulkanErrorKind::unsuitable:
    case VulkanErrorKind::device_lost:
    case VulkanErrorKind::self_test:
    case VulkanErrorKind::driver:
      break;
  }
  return refused("device", error.message, ModelErrorKind::device_unavailable);
}

Result<LoadedBackend, ModelError> create_on_vulkan(const GgufFile& file, const BackendOptions& options,
                                                   const VulkanDeviceEntry& device,
                                                   const std::function<void(float)>& progress) {
  LoadedBackend loaded;
  ORCH_TRY(config, read_model_config(file));
  loaded.config = config;
  ORCH_TRY(memory, estimate_memory(config, vulkan_weight_bytes(file), options,
                                   memory_budget(memory_of_device(device, host_memory()), options),
                                   [&](std::uint32_t context) { return vulkan_scratch_bytes(file, config, context); }));
  loaded.memory = memory;
  auto model = load_model(file, progress, options.threads != 0 ? options.threads : cpu::usable_cores());
  if (!model.ok()) return Err{model.error()};
  VulkanBackendOptions vulkan_options;
  vulkan_options.device.index = device.index;
  vulkan_options.device.software = SoftwareDevices::allow;  // this device was chosen above
  vulkan_options.context = memory.context;
  vulkan_options.pages = memory.pages;
  vulkan_options.pipeline_cache_directory = pipeline_cache_directory();
  auto backend = create_vulkan_backend(std::move(model).value(), vulkan_options);
  if (!backend.ok()) return Err{from_vulkan(backend.error())};
  loaded.backend = std::move(backend).value();
  return loaded;
}

Result<LoadedBackend, ModelError> create_on_named_vulkan(const GgufFile& file, const BackendOptions& options,
                                                         const std::function<void(float)>& progress) {
  auto selection = parse_vulkan_selection(options.device);
  if (!selection) return Err{refused("device", "'" + options.device + "'; allowed: vulkan, vulkan:INDEX, vulkan:UUID")};
  selection->software = SoftwareDevices::allow;  // asked for by name
  auto devices = list_vulkan_devices();
  if (!devices.ok()) return Err{from_vulkan(devices.error())};
  auto device = select_vulkan_device(*devices, *selection);
  if (!device.ok()) return Err{from_vulkan(device.error())};
  return create_on_vulkan(file, options, *device, progress);
}

void skip(std::string& skipped, const std::string& device, const std::string& reason) {
  if (!skipped.empty()) skipped += "; ";
  skipped += device + ": " + reason;
}

// The preferred hardware device that serves; the reasons of those that do not go into `skipped` (OC-DEVICE-1011).
std::optional<LoadedBackend> create_on_any_gpu(const GgufFile& file, const BackendOptions& options,
                                               const std::function<void(float)>& progress, std::string& skipped) {
  auto devices = list_vulkan_devices();
  if (!devices.ok()) {
    skip(skipped, "vulkan", devices.error().message);
    return std::nullopt;
  }
  if (devices->empty()) skip(skipped, "vulkan", "the drivers show no device");
  for (const VulkanDeviceEntry& device : by_preference(*devices)) {
    if (device.software || !device.excluded_reason.empty()) {
      skip(skipped, device.name, device.software ? "software device" : device.excluded_reason);
      continue;
    }
    auto loaded = create_on_vulkan(file, options, device, progress);
    if (loaded.ok()) return std::move(loaded).value();
    skip(skipped, device.name, loaded.error().message);
  }
  return std::nullopt;
}

#endif

}  // namespace

Result<LoadedBackend, ModelError> create_backend(const GgufFile& file, const BackendOptions& options,
                                                 const std::function<void(float)>& progress) {
  ORCH_TRY(checked, check_options(options));
  static_cast<void>(checked);
  std::string skipped;
#ifdef ORCH_WITH_VULKAN
  if (names_vulkan(options.device)) return create_on_named_vulkan(file, options, progress);
  if (options.device == "auto") {
    if (auto loaded = create_on_any_gpu(file, options, progress, skipped)) {
      loaded->skipped_devices = std::move(skipped);
      return std::move(*loaded);
    }
  }
#else
  if (options.device == "auto") skipped = "vulkan: this build has no such backend";
  if (names_vulkan(options.device)) {
    return Err{refused("device", "this build has no Vulkan backend", ModelErrorKind::device_unavailable)};
  }
#endif
  auto loaded = create_on_cpu(file, options, progress);
  if (loaded.ok()) loaded->skipped_devices = std::move(skipped);
  return loaded;
}

std::vector<DeviceLine> list_devices() {
  std::vector<DeviceLine> lines;
#ifdef ORCH_WITH_VULKAN
  if (auto devices = list_vulkan_devices(); devices.ok()) {
    for (const VulkanDeviceEntry& device : *devices) {
      DeviceLine line;
      line.name = "vulkan:" + std::to_string(device.index);
      line.description = device.name + " (" + device.driver + ", " + device.type + ", " + device.uuid + ")";
      line.memory_bytes = device.memory_bytes;
      line.excluded = device.excluded_reason;
      if (line.excluded.empty() && device.software) line.excluded = "software device: only by name";
      lines.push_back(std::move(line));
    }
  } else {
    DeviceLine line;
    line.name = "vulkan";
    line.excluded = devices.error().message;
    lines.push_back(std::move(line));
  }
#endif
  DeviceLine line;
  line.name = "cpu";
  line.description = std::to_string(cpu::usable_cores()) + " threads, kernels " + cpu::best_kernels().name;
  line.memory_bytes = host_memory().free_bytes;
  lines.push_back(std::move(line));
  return lines;
}

std::string to_text(const DeviceLine& line) {
  std::array<char, 32> memory{};
  std::snprintf(memory.data(), memory.size(), "%.1f GiB",
                static_cast<double>(line.memory_bytes) / (1024.0 * 1024 * 1024));
  return line.name + "\t" + line.description + "\t" + memory.data() + "\tclass not tested\t" +
         (line.excluded.empty() ? "usable" : line.excluded);
}

}  // namespace orch::worker
