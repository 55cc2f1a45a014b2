#include "worker/backend/mutant_backend.h"

#include <algorithm>
#include <utility>

#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/mutants.h"
#include "worker/model/host_memory.h"

namespace orch::worker {
namespace {

ModelError refused(const char* field, std::string message) {
  return {ModelErrorKind::unsupported, field, std::move(message)};
}

}  // namespace

std::string mutant_names() {
  std::string names;
  for (const cpu::Mutant& mutant : cpu::mutants()) names += (names.empty() ? "" : ", ") + mutant.name;
  return names;
}

Result<MutantBackend, ModelError> create_mutant_backend(const GgufFile& file, const BackendOptions& options,
                                                        std::string_view name) {
  const auto& all = cpu::mutants();
  const auto mutant = std::find_if(all.begin(), all.end(), [name](const cpu::Mutant& m) { return m.name == name; });
  if (mutant == all.end()) {
    return Err{refused("mutant", "'" + std::string(name) + "'; allowed: " + mutant_names())};
  }
  if (options.device != "cpu") return Err{refused("device", "a mutant runs on the cpu")};
  if (options.isa != "auto") return Err{refused("isa", "a mutant brings its own kernels")};
  MutantBackend out;
  ORCH_TRY(config, read_model_config(file));
  out.loaded.config = config;
  ORCH_TRY(memory,
           estimate_memory(config, repacked_weight_bytes(file), options, memory_budget(host_memory(), options)));
  out.loaded.memory = memory;
  ORCH_TRY(model, load_model(file, {}));
  if (mutant->change_model != nullptr) mutant->change_model(model);
  out.kernels = std::make_unique<cpu::CpuKernels>(cpu::kernels_of(*mutant));
  cpu::CpuBackendOptions cpu_options;
  cpu_options.threads = std::max(1U, options.threads);
  cpu_options.context = memory.context;
  cpu_options.pages = memory.pages;
  ORCH_TRY(backend, cpu::create_cpu_backend(std::move(model), *out.kernels, cpu_options));
  out.loaded.backend = std::move(backend);
  return out;
}

}  // namespace orch::worker
