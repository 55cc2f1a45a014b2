// Runs a model's op list on CPU threads: class X for every kernel table, thread count and batch. Every thread walks the
// same list; between operations they meet at a barrier. The unit of division is fixed (16-row weight groups, activation
// rows, KV heads), so no sum ever crosses a division.
//
// Owns weights, KV pages and scratch. Not thread-safe: one engine thread calls step().
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/base/result.h"
#include "worker/core/backend.h"
#include "worker/cpu/kernels.h"
#include "worker/model/model_error.h"
#include "worker/model/weights.h"

namespace orch::worker::cpu {

struct CpuBackendOptions {
  std::uint32_t threads = 1;
  std::uint32_t context = 0;  // positions of one sequence, for the RoPE table
  std::uint32_t pages = 0;
  // Tests run with flush-to-zero and denormals-are-zero to show that bytes do not depend on them.
  bool flush_denormals = false;
};

Result<std::unique_ptr<Backend>, ModelError> create_cpu_backend(Model model, const CpuKernels& kernels,
                                                                const CpuBackendOptions& options);

}  // namespace orch::worker::cpu
