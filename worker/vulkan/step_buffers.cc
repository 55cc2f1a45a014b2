#include "worker/vulkan/step_buffers.h"

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

void StepBuffers::lay_out(const ModelConfig& config) {
  for (const Buffer buffer : kRowOrder) {
    offsets_[static_cast<std::size_t>(buffer)] = row_words_;
    row_words_ += buffer_width(config, buffer);
  }
}

Result<std::unique_ptr<StepBuffers>, VulkanError> StepBuffers::Create(KernelDevice& device, const ModelConfig& config,
                                                                      const Weights& weights, const StepShape& shape) {
  std::unique_ptr<StepBuffers> buffers(new StepBuffers());
  buffers->lay_out(config);
  ORCH_TRY(made, buffers->make(device, config, shape));
  static_cast<void>(made);
  ORCH_TRY(kv, buffers->make_kv(device, config));
  static_cast<void>(kv);
  ORCH_TRY(rope, buffers->upload_rope(device, make_rope_table(config, weights, shape.context)));
  buffers->rope_ = std::move(rope);
  if (config.window == 0) return buffers;
  ORCH_TRY(local, buffers->upload_rope(device, make_local_rope_table(config, shape.context)));
  buffers->local_rope_ = std::move(local);
  return buffers;
}

Status<VulkanError> StepBuffers::make(KernelDevice& device, const ModelConfig& config, const StepShape& shape) {
  const std::uint64_t limit = std::min<std::uint64_t>(kScratchBytesMax, device.facts().storage_range_max);
  splits_max_ = (shape.context + numerics::kAttentionSplit - 1) / numerics::kAttentionSplit;
  pages_ = shape.pages;
  pages_per_sequence_ = (shape.context + kPageTokens - 1) / kPageTokens;
  const std::uint64_t logit_bytes = std::uint64_t{config.vocabulary} * sizeof(float);
  rows_max_ = std::min(rows_that_fit(partial_bytes(config, splits_max_), limit), rows_that_fit(logit_bytes, limit));

  const std::uint64_t rows = rows_max_ + kTokensPerGroupMax - 1;
  const std::uint64_t groups = rows * ((shape.columns_max + numerics::kQuantBlock - 1) / numerics::kQuantBlock);
  byte_record_base_ = static_cast<std::uint32_t>(groups * kNibbleRecordTexels);
  wide_record_base_ = static_cast<std::uint32_t>(groups * (kNibbleRecordTexels + kByteRecordTexels));
  const std::uint64_t wide_groups = shape.wide_records ? groups * numerics::kQuantBlock / numerics::kWideGroup : 0;
  const std::uint64_t record_bytes =
      (groups * (kNibbleRecordTexels + kByteRecordTexels) + wide_groups * kWideRecordTexels) * kTexelBytes;
  const std::uint64_t step_bytes = (std::uint64_t{kTablesWord} + table_words_max()) * sizeof(std::uint32_t);

  struct Wish {
    std::unique_ptr<DeviceBuffer>& slot;
    MemoryUse use;
    const char* name;
    std::uint64_t bytes;
  };
  const std::array wishes{
      Wish{step_, MemoryUse::host, "the step input", step_bytes},
      Wish{activations_, MemoryUse::device, "activation rows", (rows + 1) * row_words_ * sizeof(float)},
      Wish{records_, MemoryUse::device, "quantised activations", record_bytes},
      Wish{floats_, MemoryUse::device, "matmul inputs", groups * numerics::kQuantBlock * sizeof(float)},
      Wish{partials_, MemoryUse::device, "attention partials", rows_max_ * partial_bytes(config, splits_max_)},
      Wish{logits_, MemoryUse::device, "logits", rows_max_ * logit_bytes},
  };
  for (const Wish& wish : wishes) {
    auto buffer = device.make_written_buffer(wish.use, wish.name, wish.bytes);
    if (!buffer.ok()) return Err{buffer.error()};
    wish.slot = std::move(buffer).value();
  }
  saturated_word_ = static_cast<std::uint32_t>(rows) * row_words_;
  const std::uint32_t zero = 0;
  return device.write(*activations_, std::uint64_t{saturated_word_} * sizeof(zero), std::as_bytes(std::span(&zero, 1)));
}

Status<VulkanError> StepBuffers::make_kv(KernelDevice& device, const ModelConfig& config) {
  page_layer_bytes_ = std::uint64_t{2} * kPageTokens * config.kv_width() * sizeof(std::uint16_t);
  for (std::uint32_t layer = 0; layer < config.layers; ++layer) {
    auto buffer = device.make_written_buffer(MemoryUse::device, "the KV pages of a layer", page_layer_bytes_ * pages_);
    if (!buffer.ok()) return Err{buffer.error()};
    kv_.push_back(std::move(buffer).value());
  }
  return Ok{};
}

// Per position its cosines, then its sines.
Result<std::unique_ptr<DeviceBuffer>, VulkanError> StepBuffers::upload_rope(KernelDevice& device,
                                                                            const RopeTable& rope) {
  std::vector<float> rows;
  rows.reserve(rope.cosine.size() + rope.sine.size());
  for (std::size_t at = 0; rope.pairs != 0 && at < rope.cosine.size(); at += rope.pairs) {
    rows.insert(rows.end(), rope.cosine.data() + at, rope.cosine.data() + at + rope.pairs);
    rows.insert(rows.end(), rope.sine.data() + at, rope.sine.data() + at + rope.pairs);
  }
  auto buffer = device.make_buffer(MemoryUse::device, "RoPE tables", rows.size() * sizeof(float));
  if (!buffer.ok()) return Err{buffer.error()};
  ORCH_TRY(written, device.write(**buffer, 0, std::as_bytes(std::span(rows))));
  static_cast<void>(written);
  return buffer;
}

std::uint64_t StepBuffers::scratch_bytes() const {
  return step_->size() + activations_->size() + records_->size() + floats_->size() + partials_->size() +
         logits_->size() + rope_->size() + (local_rope_ != nullptr ? local_rope_->size() : 0);
}

}  // namespace orch::worker::vulkan
