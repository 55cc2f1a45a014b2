// Reads a SPIR-V module for the class-X rules (ENGINE-RULES "Arithmetic"): every float + - * is NoContraction, and none
// of the operations whose result devices may choose appears. Test code only.
#pragma once

#include <string>
#include <vector>

#include "worker/vulkan/kernel_set.h"

namespace orch::worker::vulkan {

struct SpirvFindings {
  std::uint32_t float_operations = 0;  // FAdd, FSub, FMul seen
  bool rounding_mode = false;          // RoundingModeRTE 32 asked for
  std::vector<std::string> violations;
};

SpirvFindings read_spirv(SpirvWords module);

}  // namespace orch::worker::vulkan
