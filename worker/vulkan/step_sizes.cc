#include "worker/vulkan/step_sizes.h"

#include <algorithm>

#include "worker/core/backend.h"
#include "worker/core/numerics.h"
#include "worker/vulkan/kernel_arguments.h"
#include "worker/vulkan/step_layout.h"

namespace orch::worker::vulkan {
namespace {

constexpr std::uint64_t kScratchBytesMax = 64ULL << 20U;  // of partials and of logits: longer steps are cut into pieces
constexpr std::uint32_t kTokensPerGroupMax = 8;  // matmul_quant.comp; reads records of up to 7 rows past the last
constexpr std::uint32_t kPartialHeadWords = 4;   // attention.comp
constexpr std::uint64_t kTexelBytes = 16;

// In the order that lets a norm_matmul write its parts with one dispatch: q, k, v and gate, up are neighbours.
constexpr std::array kRowOrder{Buffer::residual, Buffer::query, Buffer::key,       Buffer::value, Buffer::attended,
                               Buffer::gate,     Buffer::up,    Buffer::activated, Buffer::branch};

std::uint64_t partial_bytes(const ModelConfig& config, std::uint32_t splits_max) {
  return std::uint64_t{config.heads} * splits_max * (config.head_dim + kPartialHeadWords) * sizeof(float);
}

std::uint32_t rows_that_fit(std::uint64_t bytes_per_row, std::uint64_t limit) {
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(limit / bytes_per_row, 1, kStepRowsMax));
}

}  // namespace

StepSizes step_sizes(const ModelConfig& config, const StepShape& shape, std::uint64_t range_max) {
  StepSizes sizes;
  for (const Buffer buffer : kRowOrder) {
    sizes.offsets[static_cast<std::size_t>(buffer)] = sizes.row_words;
    sizes.row_words += buffer_width(config, buffer);
  }
  sizes.joined_offset = sizes.row_words;
  sizes.row_words += buffer_width(config, Buffer::branch);
  const std::uint64_t limit = std::min(kScratchBytesMax, range_max);
  sizes.splits_max = (shape.context + numerics::kAttentionSplit - 1) / numerics::kAttentionSplit;
  sizes.pages_per_sequence = (shape.context + kPageTokens - 1) / kPageTokens;
  const std::uint64_t logit_bytes = std::uint64_t{config.vocabulary} * sizeof(float);
  const std::uint64_t partial_row = partial_bytes(config, sizes.splits_max);
  sizes.rows_max = std::min(rows_that_fit(partial_row, limit), rows_that_fit(logit_bytes, limit));

  const std::uint64_t rows = sizes.rows_max + kTokensPerGroupMax - 1;
  const std::uint64_t groups = rows * ((shape.columns_max + numerics::kQuantBlock - 1) / numerics::kQuantBlock);
  sizes.byte_record_base = static_cast<std::uint32_t>(groups * kNibbleRecordTexels);
  sizes.wide_record_base = static_cast<std::uint32_t>(groups * (kNibbleRecordTexels + kByteRecordTexels));
  const std::uint64_t wide_groups = shape.wide_records ? groups * numerics::kQuantBlock / numerics::kWideGroup : 0;
  sizes.saturated_word = static_cast<std::uint32_t>(rows) * sizes.row_words;
  const std::uint64_t table_words = std::uint64_t{sizes.rows_max} * sizes.pages_per_sequence;
  sizes.step = (std::uint64_t{kTablesWord} + table_words) * sizeof(std::uint32_t);
  sizes.activations = (rows + 1) * sizes.row_words * sizeof(float);
  sizes.records = (sizes.wide_record_base + wide_groups * kWideRecordTexels) * kTexelBytes;
  sizes.floats = groups * numerics::kQuantBlock * sizeof(float);
  sizes.partials = sizes.rows_max * partial_row;
  sizes.logits = sizes.rows_max * logit_bytes;
  const std::uint64_t tables = config.window != 0 ? 2 : 1;
  sizes.rope = tables * shape.context * config.rope_dims * sizeof(float);
  return sizes;
}

}  // namespace orch::worker::vulkan
