// How large the buffers of a step are, before any is made. Pure; offsets in 32-bit words, sizes in bytes.
#pragma once

#include <array>
#include <cstdint>

#include "worker/model/model_config.h"
#include "worker/model/plan.h"

namespace orch::worker::vulkan {

struct StepShape {
  std::uint32_t context = 0;  // positions of one sequence
  std::uint32_t pages = 0;
  std::uint32_t columns_max = 0;  // widest matmul input
  bool wide_records = false;      // some weights are K-quants
};

struct StepSizes {
  std::array<std::uint32_t, kBuffers> offsets{};  // of a buffer in an activation row; multiples of 4
  std::uint32_t joined_offset = 0;  // the residual stream's other place, where halves of a layer are normed
  std::uint32_t row_words = 0;
  std::uint32_t rows_max = 0;  // of one submission
  std::uint32_t splits_max = 0;
  std::uint32_t pages_per_sequence = 0;
  std::uint32_t byte_record_base = 0;  // texels into the records
  std::uint32_t wide_record_base = 0;
  std::uint32_t saturated_word = 0;  // behind the activation rows
  std::uint64_t step = 0;
  std::uint64_t activations = 0;
  std::uint64_t records = 0;
  std::uint64_t floats = 0;
  std::uint64_t partials = 0;
  std::uint64_t logits = 0;
  std::uint64_t rope = 0;  // all tables

  std::uint64_t total() const { return step + activations + records + floats + partials + logits + rope; }
};

// `range_max`: bytes that a kernel may write through one binding.
StepSizes step_sizes(const ModelConfig& config, const StepShape& shape, std::uint64_t range_max);

}  // namespace orch::worker::vulkan
