// Which steps have the inputs of their matmuls made inside the matmuls, by every workgroup for itself, instead of by a
// dispatch in front of them (OC-DEVICE-1006). Plain values; no Vulkan header needed.
#pragma once

#include <cstdint>

namespace orch::worker {

struct OwnInputLimits {
  std::uint32_t rows = 0;    // of a step; 0: no step
  std::uint32_t splits = 0;  // of attention, of the step's furthest row: beyond them their join stays a dispatch
};

}  // namespace orch::worker
