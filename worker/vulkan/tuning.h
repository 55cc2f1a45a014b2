// How work is mapped to lanes on a device. Never changes a result. Value type.
#pragma once

#include <cstdint>

#include "worker/vulkan/own_input_limits.h"
#include "worker/vulkan/physical_device.h"

namespace orch::worker::vulkan {

struct Tuning {
  std::uint32_t width = 32;         // workgroup = subgroup
  std::uint32_t rows_per_lane = 1;  // weight rows
  std::uint32_t keys_per_lane = 1;  // attention
  std::uint32_t shuffle = 0;        // exchange activation words between lanes instead of fetching them in each
  std::uint32_t shared_bytes = 0;   // that a workgroup may have
  OwnInputLimits own_inputs;
};

Tuning tuning_for(const PhysicalDeviceFacts& facts);

}  // namespace orch::worker::vulkan
