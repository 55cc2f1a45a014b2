// The op list of a model as dispatches, recorded once. Nothing in the recording depends on a step: rows, positions and
// page tables come from the step buffer, workgroup counts from an argument buffer that the host fills (indirect
// dispatch). Barriers stand only between operations; the matrices of one operation run side by side. Threads: as
// KernelDevice. Must not outlive the device, weights and buffers it was built on.
#pragma once

#include <memory>
#include <vector>

#include "worker/model/model_config.h"
#include "worker/model/plan.h"
#include "worker/vulkan/kernel_device.h"
#include "worker/vulkan/program_form.h"
#include "worker/vulkan/step_buffers.h"
#include "worker/vulkan/weight_store.h"

namespace orch::worker::vulkan {

// What decides the workgroup counts of one submission.
struct StepCounts {
  std::uint32_t rows = 0;
  std::uint32_t wanted = 0;
  std::uint32_t splits = 0;  // of the furthest row
};

enum class RowRule : std::uint8_t { rows, row_tiles, wanted, wanted_tiles };

struct PlannedDispatch {
  const ComputePipeline* pipeline = nullptr;
  VkDescriptorSet set = VK_NULL_HANDLE;
  std::vector<std::byte> push;
  std::uint32_t x = 1;
  RowRule y = RowRule::rows;
  bool per_split = false;      // z = splits
  bool barrier_before = true;  // reads what an earlier dispatch wrote
};

class StepProgram {
 public:
  static Result<std::unique_ptr<StepProgram>, VulkanError> Create(KernelDevice& device, WeightStore& weights,
                                                                  StepBuffers& buffers, const Model& model,
                                                                  ProgramForm form);

  // Runs one submission over what the step buffer holds and waits for it.
  Status<VulkanError> run(const StepCounts& counts);

 private:
  StepProgram(KernelDevice& device, std::uint32_t tile_tokens) : device_(device), tile_tokens_(tile_tokens) {}
  Status<VulkanError> record();
  std::uint32_t groups_y(RowRule rule, const StepCounts& counts) const;

  KernelDevice& device_;
  std::uint32_t tile_tokens_;
  std::vector<PlannedDispatch> dispatches_;
  std::unique_ptr<DeviceBuffer> arguments_;
  std::unique_ptr<CommandRecorder> recorder_;
};

}  // namespace orch::worker::vulkan
