#include "worker/vulkan/step_program.h"

#include "worker/vulkan/program_builder.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<StepProgram>, VulkanError> StepProgram::Create(KernelDevice& device, WeightStore& weights,
                                                                      StepBuffers& buffers, const Model& model,
                                                                      ProgramForm form) {
  std::unique_ptr<StepProgram> program(new StepProgram(device, form.tile_tokens));
  ProgramBuilder builder(device, weights, buffers, model, form);
  auto dispatches = builder.build();
  if (!dispatches.ok()) return Err{dispatches.error()};
  program->dispatches_ = std::move(dispatches).value();
  ORCH_TRY(recorded, program->record());
  static_cast<void>(recorded);
  return program;
}

Status<VulkanError> StepProgram::record() {
  auto arguments = device_.make_buffer(MemoryUse::host, "dispatch arguments", dispatches_.size() * sizeof(GroupCount));
  if (!arguments.ok()) return Err{arguments.error()};
  arguments_ = std::move(arguments).value();
  auto recorder = device_.make_recorder();
  if (!recorder.ok()) return Err{recorder.error()};
  recorder_ = std::move(recorder).value();
  ORCH_TRY(begun, recorder_->begin());
  static_cast<void>(begun);
  VkDeviceSize at = 0;
  for (const PlannedDispatch& dispatch : dispatches_) {
    if (dispatch.barrier_before) recorder_->barrier();
    recorder_->dispatch_indirect({dispatch.pipeline, dispatch.set, dispatch.push}, *arguments_, at);
    at += sizeof(GroupCount);
  }
  recorder_->host_barrier();
  return recorder_->end();
}

std::uint32_t StepProgram::groups_y(RowRule rule, const StepCounts& counts) const {
  switch (rule) {
    case RowRule::rows:
      return counts.rows;
    case RowRule::wanted:
      return counts.wanted;
    case RowRule::row_tiles:
      return (counts.rows + tile_tokens_ - 1) / tile_tokens_;
    case RowRule::wanted_tiles:
      return (counts.wanted + tile_tokens_ - 1) / tile_tokens_;
  }
  return 0;
}

Status<VulkanError> StepProgram::run(const StepCounts& counts) {
  std::vector<GroupCount> groups;
  groups.reserve(dispatches_.size());
  for (const PlannedDispatch& dispatch : dispatches_) {
    groups.push_back({dispatch.x, groups_y(dispatch.y, counts), dispatch.per_split ? counts.splits : 1});
  }
  ORCH_TRY(written, device_.write(*arguments_, 0, std::as_bytes(std::span(groups))));
  static_cast<void>(written);
  return device_.run(*recorder_);
}

}  // namespace orch::worker::vulkan
