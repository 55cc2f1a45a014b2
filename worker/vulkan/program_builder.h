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
  Buffer second = Buffer::none;  // silu_mul, gelu_mul: the other factor
  TensorId norm = kNoTensor;
};

// Spans of an activation row that worker/kernels/norm.comp norms.
struct NormSpans {
  TensorId norm = kNoTensor;
  Buffer in = Buffer::none;
  Buffer out = Buffer::none;
  Buffer residual = Buffer::none;
  std::uint32_t width = 0;  // of a span, in elements
  std::uint32_t count = 1;
  bool barrier_before = true;
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
  Status<VulkanError> add_norm(const NormSpans& spans);
  Status<VulkanError> add_attention(const Op& op);
  Status<VulkanError> add_prepare(const MatmulInput& input, const Op& op);
  // Parts whose results are neighbours and whose weights join run as one dispatch.
  Status<VulkanError> add_matmul(const std::vector<MatmulPart>& parts, const Op& op, bool first);
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
  std::optional<MatmulSource> activation_;  // the gate is computed by the matmul that reads Buffer::activated
};

}  // namespace orch::worker::vulkan
