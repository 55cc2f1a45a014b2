// A loaded model behind a wrong engine (worker/cpu/mutants.h), for the agreement harness. Only the tool `worker-logits`
// and tests link this; no product binary does.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "worker/backend/create_backend.h"
#include "worker/cpu/kernels.h"
#include "worker/model/model_error.h"

namespace orch::worker {

struct MutantBackend {
  std::unique_ptr<cpu::CpuKernels> kernels;  // stands above the backend, which refers to it
  LoadedBackend loaded;
};

std::string mutant_names();  // separated by ", "

// On CPU threads. Errors: `mutant` for a name that is not in the list, `device` and `isa` for anything but cpu and auto
// (a mutant brings its own kernels), else as create_backend.
Result<MutantBackend, ModelError> create_mutant_backend(const GgufFile& file, const BackendOptions& options,
                                                        std::string_view name);

}  // namespace orch::worker
