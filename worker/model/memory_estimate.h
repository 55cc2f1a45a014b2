// What a model will need, before anything is allocated (ENGINE-RULES interface 8). Pure; bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/base/result.h"
#include "worker/model/backend_options.h"
#include "worker/model/device_memory.h"
#include "worker/model/model_config.h"
#include "worker/model/model_error.h"

namespace orch::worker {

struct MemoryEstimate {
  std::uint64_t weight_bytes = 0;
  std::uint64_t kv_bytes = 0;
  std::uint64_t scratch_bytes = 0;
  std::uint64_t constraint_bytes = 0;  // of the host, which is where a software or integrated device has its own
  std::uint64_t budget_bytes = 0;
  std::uint64_t share_bytes = 0;  // of the budget, for a context of the model's own
  std::uint32_t context = 0;      // per slot, as it will run
  std::uint32_t context_wanted = 0;
  std::uint32_t slots = 0;
  std::uint32_t pages = 0;  // KV pages of 32 tokens, all slots

  std::uint64_t total_bytes() const { return weight_bytes + kv_bytes + scratch_bytes + constraint_bytes; }
  bool shrunk() const { return context < context_wanted; }
};

// What a load may take (OC-DEVICE-1010).
struct MemoryBudget {
  std::uint64_t bytes = 0;        // refused above; 0: not known
  std::uint64_t share_bytes = 0;  // what the model's own context is shrunk to; 0: bytes
};
MemoryBudget memory_budget(const DeviceMemory& memory, const BackendOptions& options);

std::uint64_t kv_page_bytes(const ModelConfig& config);  // K and V of 32 tokens, all layers

// What steps work in, by the context of a slot. Empty: what a CPU backend takes.
using ScratchBytes = std::function<std::uint64_t(std::uint32_t context)>;

// Shrinks the context (in pages, not below 512 tokens) until it fits its share when options.context is 0. What does not
// fit the budget is refused with the numbers, as is an explicit context above the model's own.
Result<MemoryEstimate, ModelError> estimate_memory(const ModelConfig& config, std::uint64_t weight_bytes,
                                                   const BackendOptions& options, const MemoryBudget& budget,
                                                   const ScratchBytes& scratch = {});

// One line for logs, `doctor` and --estimate.
std::string describe(const MemoryEstimate& estimate);

// Weight bytes after the repack, from the tensor list alone.
std::uint64_t repacked_weight_bytes(const GgufFile& file);

}  // namespace orch::worker
