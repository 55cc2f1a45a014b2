// The step buffer that the host fills and every kernel reads: the other side of worker/kernels/step.glsl, in 32-bit
// words.
#pragma once

#include <cstdint>

#include "worker/model/backend_options.h"

namespace orch::worker::vulkan {

inline constexpr std::uint32_t kRowsCountWord = 0;
inline constexpr std::uint32_t kWantedCountWord = 1;
inline constexpr std::uint32_t kRowsWord = 4;  // 4 words a row: token, position, first word of its page table, 0
inline constexpr std::uint32_t kWantedWord = kRowsWord + 4 * kStepRowsMax;
inline constexpr std::uint32_t kTablesWord = kWantedWord + kStepRowsMax;  // page tables, one after the other
static_assert(kStepRowsMax == 256, "step.glsl has the same constant");

}  // namespace orch::worker::vulkan
