// Attempts of a job are counted from 1 by its orchestrator. The two highest numbers name what a worker runs of its own
// accord: the prompts of a request for scores, and its self-check.
#pragma once

#include <cstdint>
#include <limits>

namespace orch::worker {

inline constexpr std::uint32_t kAttemptMax = std::numeric_limits<std::uint32_t>::max() - 2;  // of a dispatch

}  // namespace orch::worker
