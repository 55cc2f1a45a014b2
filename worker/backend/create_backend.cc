#include "worker/backend/create_backend.h"

#include <algorithm>

#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/thread_pool.h"

namespace orch::worker {
namespace {

constexpr std::uint32_t kThreadsMax = 256;

ModelError refused(const char* field, std::string message, ModelErrorKind kind = ModelErrorKind::unsupported) {
  return {kind, field, std::move(message)};
}

Result<const cpu::CpuKernels*, ModelError> choose_kernels(const std::string& isa) {
  if (isa == "scalar") return &cpu::scalar_kernels();
  if (isa != "auto" && isa != "avx2") return Err{refused("isa", "'" + isa + "'; allowed: auto, scalar, avx2")};
  const cpu::CpuKernels* avx2 = cpu::avx2_kernels();
  if (avx2 != nullptr) return avx2;
  if (isa == "auto") return &cpu::scalar_kernels();
  return Err{refused("isa", "this CPU has no AVX2 with F16C", ModelErrorKind::device_unavailable)};
}

Result<std::unique_ptr<Backend>, ModelError> create_on_cpu(Model model, const BackendOptions& options,
                                                           const MemoryEstimate& memory) {
  ORCH_TRY(kernels, choose_kernels(options.isa));
  cpu::CpuBackendOptions cpu_options;
  cpu_options.threads = options.threads != 0 ? options.threads : cpu::usable_cores();
  cpu_options.context = memory.context;
  cpu_options.pages = memory.pages;
  return cpu::create_cpu_backend(std::move(model), *kernels, cpu_options);
}

Status<ModelError> check_options(const BackendOptions& options) {
  const bool vulkan = options.device == "vulkan" || options.device.starts_with("vulkan:");
  if (options.device != "auto" && options.device != "cpu" && !vulkan) {
    return Err{refused("device", "'" + options.device + "'; allowed: auto, cpu, vulkan[:index|:uuid]")};
  }
  if (vulkan) return Err{refused("device", "this build has no Vulkan backend", ModelErrorKind::device_unavailable)};
  if (options.threads > kThreadsMax) {
    return Err{refused("threads", std::to_string(options.threads) + ", allowed: 0 to " + std::to_string(kThreadsMax))};
  }
  ORCH_TRY(kernels, choose_kernels(options.isa));
  static_cast<void>(kernels);
  return Ok{};
}

}  // namespace

Result<LoadedBackend, ModelError> create_backend(const GgufFile& file, const BackendOptions& options,
                                                 const std::function<void(float)>& progress) {
  ORCH_TRY(checked, check_options(options));
  static_cast<void>(checked);
  LoadedBackend loaded;
  ORCH_TRY(config, read_model_config(file));
  loaded.config = config;
  const std::uint64_t available = available_memory_bytes();
  const std::uint64_t budget = options.memory_max_bytes != 0 ? options.memory_max_bytes : available;
  ORCH_TRY(memory, estimate_memory(config, repacked_weight_bytes(file), options, budget));
  loaded.memory = memory;
  auto model = load_model(file, progress);
  if (!model.ok()) return Err{model.error()};
  auto backend = create_on_cpu(std::move(model).value(), options, memory);
  if (!backend.ok()) return Err{backend.error()};
  loaded.backend = std::move(backend).value();
  return loaded;
}

std::vector<DeviceLine> list_devices() {
  DeviceLine line;
  line.name = "cpu";
  line.description = std::to_string(cpu::usable_cores()) + " threads, kernels " +
                     (cpu::avx2_kernels() != nullptr ? cpu::avx2_kernels()->name : cpu::scalar_kernels().name);
  line.memory_bytes = available_memory_bytes();
  line.numeric_class = "X";
  return {line};
}

}  // namespace orch::worker
