// Turns fused operations into dispatches with their bindings and arguments. One builder makes one program.
#pragma once

#include <optional>
#include <vector>

#include "worker/vulkan/kernel_arguments.h"
#include "worker/vulkan/program_form.h"
#include "worker/vulkan/step_program.h"

namespace orch::worker::vulkan {

// The input of a matmul: where it comes from and how it is made (worker/kernels/prepare.comp).
struct MatmulInput {
  MatmulSource source = MatmulSource::plain;
  Buffer in = Buffer::none;
  Buffer second = Buffer::none;  // silu_mul, gelu_mul: the other factor; joined_norm: the residual stream
  TensorId norm = kNoTensor;
  TensorId added_norm = kNoTensor;  // joined_norm: of `in`
  std::uint32_t window = 0;         // attention_splits
};

class ProgramBuilder {
 public:
  ProgramBuilder(KernelDevice& device, WeightStore& weights, StepBuffers& buffers, const Model& model, ProgramForm form)
      : device_(device),
        weights_(weights),
        buffers_(buffers),
        model_(model),
        form_(form),
        stream_(buffers.offset(Buffer::residual)) {}

  Result<std::vector<PlannedDispatch>, VulkanError> build();

 private:
  Status<VulkanError> add(const Op& op);
  Status<VulkanError> add_embed(const Op& op);
  Status<VulkanError> add_norm_matmul(const Op& op);
  Status<VulkanError> add_matmul_residual(const Op& op);
  Status<VulkanError> add_rope(const Op& op);
  Status<VulkanError> add_norm(const Op& op);
  Status<VulkanError> add_attention(const Op& op);
  Status<VulkanError> add_prepare(const MatmulInput& input, const Op& op);
  Result<MatmulInput, VulkanError> norm_input(const Op& op);
  MatmulInput input_of(const Op& op);
  // Where an input comes from: what both kernels that make one bind and are told.
  VkBufferView source_of(const MatmulInput& input);
  Result<VkBufferView, VulkanError> norms_of(const MatmulInput& input);
  InputPush push_of(const MatmulInput& input) const;
  bool makes_own_input(const MatmulInput& input, const Op& op) const;
  // Parts whose results are neighbours and whose weights join. `own`: the input that the matmul makes itself, null:
  // records stand in memory. `first` of the operation's matmuls.
  Status<VulkanError> add_matmul(const std::vector<MatmulPart>& parts, const Op& op, const MatmulInput* own,
                                 bool first);
  Status<VulkanError> add_own_input(const MatmulInput& input, bool first, Bindings& bindings, MatmulPush& push);
  Status<VulkanError> push_back(const KernelVariant& variant, const Bindings& bindings, PlannedDispatch dispatch);
  Status<VulkanError> check_shape() const;
  bool can_join(const std::vector<MatmulPart>& parts) const;
  std::uint32_t place(Buffer buffer) const { return buffer == Buffer::residual ? stream_ : buffers_.offset(buffer); }
  // The other of the residual stream's two places: what joins it in a matmul is written where no workgroup reads it.
  std::uint32_t other_place() const {
    const std::uint32_t home = buffers_.offset(Buffer::residual);
    return stream_ == home ? buffers_.joined_offset() : home;
  }
  std::uint32_t record_base(TensorType type) const;
  std::uint32_t lanes(std::uint32_t items) const {
    return (items + device_.tuning().width - 1) / device_.tuning().width;
  }

  KernelDevice& device_;
  WeightStore& weights_;
  StepBuffers& buffers_;
  const Model& model_;
  ProgramForm form_;
  std::uint32_t stream_;  // where the residual stream is
  std::vector<PlannedDispatch> dispatches_;
  // What the next matmul's input kernel computes instead of a dispatch of its own: the gate, the join of attention's
  // splits, the normed half of a layer that joins the residual stream.
  std::optional<MatmulSource> activation_;
  std::optional<Op> attention_;
  std::optional<Op> joining_;
};

}  // namespace orch::worker::vulkan
