// The port between the engine (pages, batching, sampling) and a device: one step of a batch. The one-sequence engine
// calls it too. Class X (.specs/engine-numerics.md): what a row yields depends on that row's tokens alone, never on its
// neighbours, the chunking, the pages' places or the device, and is equal to the byte between backends.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace orch::worker {

inline constexpr std::uint32_t kPageTokens = 32;

using PageId = std::uint32_t;
using SequenceIndex = std::uint32_t;  // into StepInput::page_tables

// One token of one sequence. Rows of a sequence are contiguous in a step and ascend in position by one.
struct Row {
  std::uint32_t token = 0;
  std::uint32_t position = 0;  // from 0
  SequenceIndex sequence = 0;
  bool want_logits = false;
  bool want_hidden = false;
};

struct StepInput {
  std::span<const Row> rows;
  // For each sequence the pages that hold its positions in order: position p lives in pages[p / 32] at p % 32. Pages of
  // all positions up to and including the step's rows are allocated by the caller. One table per layer group (one group
  // today).
  std::span<const std::vector<PageId>> page_tables;
};

// Where a step puts what its rows want, in row order; sized by the caller.
struct StepOutput {
  std::span<float> logits;  // vocabulary floats per row with want_logits
  // Embedding floats per row with want_hidden: what the head reads, the last norm applied.
  std::span<float> hidden = {};
};

// Why a step failed. Whichever it was, the backend is used no further and its process must end (OC-DEVICE-1004).
enum class BackendFaultKind : std::uint8_t {
  device_lost,    // the jobs can be run again elsewhere
  out_of_memory,  // likewise
  broken,         // another error of the driver or the step: elsewhere it may well be the same
};

struct BackendFault {
  BackendFaultKind kind = BackendFaultKind::broken;
  std::string message;  // names the device
};

struct BackendInfo {
  std::string name;         // cpu-scalar | cpu-avx2 | cpu-avx512vnni | vulkan
  std::string accelerator;  // cpu | vulkan | software-vulkan
  std::string device_name;
  std::string numeric_class;  // "X"
  std::uint32_t pages_total = 0;
  std::uint64_t weight_bytes = 0;
  std::uint64_t kv_bytes = 0;
  std::uint64_t scratch_bytes = 0;
};

// Not thread-safe: one engine thread calls it.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual BackendInfo info() const = 0;
  // K and V values that were beyond f16 and stored as +-65504. Asked after every step, so that it costs nothing.
  virtual std::uint64_t kv_saturated_total() const = 0;
  virtual std::uint32_t rows_max() const = 0;  // of one step

  // Writes K and V of every row into its page, then the output. Sizes are checked by ORCH_CHECK: the caller owns them.
  virtual Status<BackendFault> step(const StepInput& input, const StepOutput& out) = 0;

  virtual Status<BackendFault> copy_page(PageId source, PageId target) = 0;
};

}  // namespace orch::worker
