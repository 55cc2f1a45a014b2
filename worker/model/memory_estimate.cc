#include "worker/model/memory_estimate.h"

#include <algorithm>
#include <sstream>

#include "common/grammar/limits.h"
#include "worker/core/backend.h"
#include "worker/model/gguf_file.h"
#include "worker/model/plan.h"
#include "worker/model/repack.h"

namespace orch::worker {
namespace {

constexpr std::uint32_t kContextMin = 512;
constexpr std::uint32_t kSlotsMax = 1024;
constexpr std::uint64_t kThreadsCounted = 16;
constexpr std::uint64_t kHeadroomDivisor = 10;  // OC-DEVICE-1010 says what the tenth is for

std::uint64_t less_headroom(std::uint64_t bytes) { return bytes - bytes / kHeadroomDivisor; }

std::string mebibytes(std::uint64_t bytes) { return std::to_string((bytes + 1'048'575) / 1'048'576) + " MiB"; }

// Activation buffers of one step, the RoPE table, and each thread's partial sums and attention workspace.
std::uint64_t scratch_bytes(const ModelConfig& config, std::uint32_t context) {
  std::uint64_t floats = 0;
  for (std::uint32_t b = 0; b < kBuffers; ++b) {
    const Buffer buffer = static_cast<Buffer>(b);
    if (buffer != Buffer::logits) floats += buffer_width(config, buffer);
  }
  const std::uint64_t widest = std::max(config.embedding, std::max(config.q_width(), config.feed_forward));
  floats += 2 * widest;  // norm output; both quantised rows, their scales and sums take less than as much again
  const std::uint64_t tables = config.window != 0 ? 2 : 1;
  const std::uint64_t rope = std::uint64_t{context} * config.rope_dims * sizeof(float) * tables;
  // Attention: scores and per-split results of at most 32 rows x heads, two pages as f32; for 16 compute threads.
  const std::uint64_t states = std::max(32U, config.heads_per_kv());
  const std::uint64_t splits = (std::uint64_t{context} + 255) / 256;
  const std::uint64_t workspace =
      states * (256 + splits * (config.head_dim + 2)) + std::uint64_t{64} * config.head_dim + 64;
  return (kStepRowsMax * floats + kThreadsCounted * workspace) * sizeof(float) + rope;
}

MemoryEstimate at_context(const ModelConfig& config, std::uint64_t weight_bytes, std::uint32_t slots,
                          std::uint32_t context, const ScratchBytes& scratch) {
  MemoryEstimate estimate;
  estimate.weight_bytes = weight_bytes;
  estimate.slots = slots;
  estimate.context = context;
  estimate.pages = slots * ((context + kPageTokens - 1) / kPageTokens);
  estimate.kv_bytes = estimate.pages * kv_page_bytes(config);
  estimate.constraint_bytes = grammar::kConstraintBytesMax;
  estimate.scratch_bytes = scratch ? scratch(context) : scratch_bytes(config, context);
  return estimate;
}

}  // namespace

// OC-DEVICE-1010. What is free lacks what other sharers hold already: dividing it would divide twice.
MemoryBudget memory_budget(const DeviceMemory& memory, const BackendOptions& options) {
  const std::uint64_t usable = less_headroom(memory.free_bytes);
  const std::uint64_t asked = options.memory_max_bytes;
  if (asked == 0) {
    const std::uint64_t divided = memory.total_bytes != 0 ? less_headroom(memory.total_bytes) : usable;
    return {.bytes = usable, .share_bytes = std::min(usable, divided / options.memory_sharers)};
  }
  const std::uint64_t bytes = usable != 0 && usable < asked ? usable : asked;
  return {.bytes = bytes, .share_bytes = bytes};
}

std::uint64_t kv_page_bytes(const ModelConfig& config) {
  return std::uint64_t{2} * kPageTokens * config.kv_width() * sizeof(std::uint16_t) * config.layers;
}

Result<MemoryEstimate, ModelError> estimate_memory(const ModelConfig& config, std::uint64_t weight_bytes,
                                                   const BackendOptions& options, const MemoryBudget& budget,
                                                   const ScratchBytes& scratch) {
  if (options.slots == 0 || options.slots > kSlotsMax) {
    return Err{ModelError{ModelErrorKind::unsupported, "slots",
                          std::to_string(options.slots) + ", allowed: 1 to " + std::to_string(kSlotsMax)}};
  }
  if (options.context > config.context) {
    return Err{ModelError{ModelErrorKind::unsupported, "ctx",
                          std::to_string(options.context) + " is above the model's " + std::to_string(config.context)}};
  }
  const std::uint32_t wanted = options.context != 0 ? options.context : config.context;
  const std::uint32_t smallest = options.context != 0 ? options.context : std::min(wanted, kContextMin);
  MemoryEstimate estimate = at_context(config, weight_bytes, options.slots, wanted, scratch);
  // A device's scratch is no straight line of the context: what remains too much is dropped again.
  const std::uint64_t share = budget.share_bytes != 0 ? budget.share_bytes : budget.bytes;
  while (share != 0 && estimate.total_bytes() > share && smallest < estimate.context) {
    const std::uint64_t per_token =
        kv_page_bytes(config) / kPageTokens * options.slots + std::uint64_t{config.rope_dims} * sizeof(float);
    const std::uint64_t excess = estimate.total_bytes() - share;
    const std::uint64_t drop = (excess / per_token / kPageTokens + 1) * kPageTokens;
    const std::uint32_t rounded = estimate.context / kPageTokens * kPageTokens;
    const std::uint32_t shrunk = drop < rounded ? rounded - static_cast<std::uint32_t>(drop) : 0;
    estimate = at_context(config, weight_bytes, options.slots, std::max(shrunk, smallest), scratch);
  }
  estimate.budget_bytes = budget.bytes;
  estimate.share_bytes = share;
  estimate.context_wanted = wanted;
  if (budget.bytes != 0 && estimate.total_bytes() > budget.bytes) {
    return Err{ModelError{ModelErrorKind::memory, "memory_max_bytes", "does not fit: " + describe(estimate)}};
  }
  return estimate;
}

std::string describe(const MemoryEstimate& estimate) {
  std::ostringstream out;
  out << "weights " << mebibytes(estimate.weight_bytes) << " + KV " << mebibytes(estimate.kv_bytes) << " ("
      << estimate.slots << " slots x " << estimate.context << " tokens) + scratch " << mebibytes(estimate.scratch_bytes)
      << " + structured output " << mebibytes(estimate.constraint_bytes) << " = " << mebibytes(estimate.total_bytes());
  if (estimate.budget_bytes != 0) out << ", budget " << mebibytes(estimate.budget_bytes);
  if (estimate.share_bytes < estimate.budget_bytes) out << ", share " << mebibytes(estimate.share_bytes);
  if (estimate.shrunk()) out << "; context shrunk from " << estimate.context_wanted;
  return out.str();
}

std::uint64_t repacked_weight_bytes(const GgufFile& file) {
  std::uint64_t sum = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    const auto type = tensor_type_of(tensor.type);
    if (!type) continue;
    std::uint64_t rows = 1;
    for (std::size_t i = 1; i < tensor.dims.size(); ++i) rows *= tensor.dims[i];
    const TensorLayout layout = tensor.dims.size() == 1 ? TensorLayout::plain : TensorLayout::tiled;
    sum += repacked_bytes(*type, layout, rows, tensor.dims[0]);
  }
  return sum;
}

}  // namespace orch::worker
