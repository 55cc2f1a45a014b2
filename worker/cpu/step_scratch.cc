#include "worker/cpu/step_scratch.h"

#include <algorithm>

namespace orch::worker::cpu {

StepScratch::StepScratch(const ModelConfig& config, std::uint32_t rows_max, std::uint32_t threads,
                         std::uint32_t context) {
  const std::size_t rows = rows_max;
  for (std::uint32_t b = 0; b < kBuffers; ++b) {
    const Buffer buffer = static_cast<Buffer>(b);
    widths_[b] = buffer_width(config, buffer);
    // Logits go straight to the caller.
    if (buffer != Buffer::logits) buffers_[b] = AlignedBytes(rows * widths_[b] * sizeof(float));
  }
  const std::size_t widest = std::max({config.embedding, config.q_width(), config.feed_forward});
  input_ = AlignedBytes(rows * widest * sizeof(float));
  quants_ = AlignedBytes(rows * widest);
  dx_ = AlignedBytes(rows * widest / kTileCols * sizeof(float));
  s_ = AlignedBytes(dx_.size());
  sums_ = AlignedBytes(dx_.size());
  wide_quants_ = AlignedBytes(rows * widest);
  wide_dx_ = AlignedBytes(rows * (widest / kWideTileCols + 1) * sizeof(float));
  sums16_ = AlignedBytes(rows * widest / 16 * sizeof(std::int16_t));
  sums32_ = AlignedBytes(rows * widest / 32 * sizeof(std::int16_t));
  for (std::uint32_t t = 0; t < threads; ++t) {
    workspaces_.emplace_back(attention_workspace_floats(config.heads_per_kv(), config.head_dim, context) *
                             sizeof(float));
  }
}

std::size_t StepScratch::byte_size() const {
  std::size_t sum = 0;
  for (const AlignedBytes* part :
       {&input_, &quants_, &dx_, &s_, &sums_, &wide_quants_, &wide_dx_, &sums16_, &sums32_}) {
    sum += part->size();
  }
  for (const AlignedBytes& buffer : buffers_) sum += buffer.size();
  for (const AlignedBytes& workspace : workspaces_) sum += workspace.size();
  return sum;
}

}  // namespace orch::worker::cpu
