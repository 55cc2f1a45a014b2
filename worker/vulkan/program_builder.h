// Turns fused operations into dispatches with their bindings and arguments. One builder makes one program.
#pragma once

#include <optional>
#include <vector>

#include "worker/vulkan/kernel_arguments.h"
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
  ProgramBuilder(KernelDevice& device, WeightStore& weights, StepBuffers& buffers, const Model& model,
                 std::uint32_t tokens_per_group)
      : device_(device), weights_(weights), buffers_(buffers), model_(model), tokens_per_group_(tokens_per_group) {}

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
  void set_source(const MatmulInput& input, PreparePush& push) const;
  MatmulInput input_of(const Op& op);
  // Parts whose results are neighbours and whose weights join.
  Status<VulkanError> add_matmul(const std::vector<MatmulPart>& parts, const Op& op, bool barrier_before);
  Status<VulkanError> push_back(const KernelVariant& variant, const Bindings& bindings, PlannedDispatch dispatch);
  Status<VulkanError> check_shape() const;
  bool can_join(const std::vector<MatmulPart>& parts) const;
  std::uint32_t record_base(TensorType type) const;
  std::uint32_t lanes(std::uint32_t items) const {
    return (items + device_.tuning().width - 1) / device_.tuning().width;
  }

  KernelDevice& device_;
  WeightStore& weights_;
  StepBuffers& buffers_;
  const Model& model_;
  std::uint32_t tokens_per_group_;
  std::vector<PlannedDispatch> dispatches_;
  // What the next matmul's input kernel computes instead of a dispatch of its own: the gate, the join of attention's
  // splits, the normed half of a layer that joins the residual stream.
  std::optional<MatmulSource> activation_;
  std::optional<Op> attention_;
  std::optional<Op> joining_;
};

}  // namespace orch::worker::vulkan
