// Which of a model's recorded programs a step takes: how many activation rows a matmul workgroup has, and which
// inputs of matmuls are made inside them. The bytes are the same in every form (OC-DEVICE-1006). Pure.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "worker/vulkan/kernel_variants.h"
#include "worker/vulkan/own_input_limits.h"

namespace orch::worker::vulkan {

// Which matmuls make their input themselves instead of having a dispatch in front of them.
enum class OwnInputs : std::uint8_t { none, norms, norms_and_joins };

struct ProgramForm {
  std::uint32_t tile_tokens = 1;  // of kTileTokens
  OwnInputs own = OwnInputs::none;

  friend auto operator<=>(const ProgramForm&, const ProgramForm&) = default;
};

// `splits`: of attention, of the furthest row.
ProgramForm form_for(std::uint32_t rows, std::uint32_t splits, OwnInputLimits limits);

// Rows of one step, at adjacent positions.
struct StepRows {
  std::uint32_t first = 0;  // position
  std::uint32_t rows = 0;

  friend bool operator==(const StepRows&, const StepRows&) = default;
};

// The steps by which a form that makes inputs itself is compared with one that does not: the first positions one after
// the other, then one step behind each number of splits that it joins, or leaves to a dispatch first.
std::vector<StepRows> compared_steps(ProgramForm form, OwnInputLimits limits, std::uint32_t context);

// All that form_for answers while no row has more than `splits_max`.
std::vector<ProgramForm> every_form(OwnInputLimits limits, std::uint32_t splits_max);

}  // namespace orch::worker::vulkan
