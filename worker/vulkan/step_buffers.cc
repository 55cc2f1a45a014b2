#include "worker/vulkan/step_buffers.h"

#include <array>

#include "worker/core/backend.h"

namespace orch::worker::vulkan {
Result<std::unique_ptr<StepBuffers>, VulkanError> StepBuffers::Create(KernelDevice& device, const ModelConfig& config,
                                                                      const Weights& weights, const StepShape& shape) {
  std::unique_ptr<StepBuffers> buffers(new StepBuffers());
  buffers->sizes_ = step_sizes(config, shape, device.facts().storage_range_max);
  buffers->pages_ = shape.pages;
  ORCH_TRY(made, buffers->make(device));
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

Status<VulkanError> StepBuffers::make(KernelDevice& device) {
  struct Wish {
    std::unique_ptr<DeviceBuffer>& slot;
    MemoryUse use;
    const char* name;
    std::uint64_t bytes;
  };
  const std::array wishes{
      Wish{step_, MemoryUse::host, "the step input", sizes_.step},
      Wish{activations_, MemoryUse::device, "activation rows", sizes_.activations},
      Wish{records_, MemoryUse::device, "quantised activations", sizes_.records},
      Wish{floats_, MemoryUse::device, "matmul inputs", sizes_.floats},
      Wish{partials_, MemoryUse::device, "attention partials", sizes_.partials},
      Wish{logits_, MemoryUse::device, "logits", sizes_.logits},
  };
  for (const Wish& wish : wishes) {
    auto buffer = device.make_written_buffer(wish.use, wish.name, wish.bytes);
    if (!buffer.ok()) return Err{buffer.error()};
    wish.slot = std::move(buffer).value();
  }
  const std::uint32_t zero = 0;
  return device.write(*activations_, std::uint64_t{saturated_word()} * sizeof(zero),
                      std::as_bytes(std::span(&zero, 1)));
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
