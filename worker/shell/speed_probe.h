// How fast a loaded model is with one job alone, measured once before anybody is told that it is ready
// (OC-ENGINE-1024), so that the first predictions for a replica rest on something. Blocks for three steps at most, one
// where that takes long.
#pragma once

#include <cstdint>
#include <functional>

#include "common/base/time.h"
#include "worker/core/backend.h"

namespace orch::worker {

struct EngineSpeed {  // tokens per second; 0: not measured
  double prefill = 0;
  double decode = 0;
};

// Uses page 0 of the KV memory, which nobody holds yet, and positions below `context`. A step that fails is left to the
// engine's own self-test to report.
EngineSpeed measure_speed(Backend& backend, std::uint32_t vocabulary, std::uint32_t context,
                          const std::function<Instant()>& clock);

// What a step of so many rows takes by these speeds, at most kPredictedStepMax (OC-POOL-3044); none measured: 0.
Duration predicted_step(const EngineSpeed& speed, std::uint32_t rows);

// A first step that pays for what is done once predicts too much; a worker that hangs is not left alone for hours.
inline constexpr Duration kPredictedStepMax = Duration::seconds(60);

}  // namespace orch::worker
