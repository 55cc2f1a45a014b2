// Limits of what a request may ask of the sampler, the same at the gateway, the worker's door and the batch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace orch::worker {

inline constexpr float kRepetitionPenaltyMin = 0.01F;
inline constexpr float kRepetitionPenaltyMax = 10.0F;
inline constexpr float kPenaltyMax = 2.0F;      // of frequency and presence, either sign
inline constexpr float kLogitBiasMax = 100.0F;  // either sign
inline constexpr std::size_t kLogitBiasEntriesMax = 1024;
inline constexpr std::uint32_t kTopLogProbsMax = 20;
inline constexpr std::uint32_t kChoiceMax = 0xFFFF;

}  // namespace orch::worker
