// From VkResult to VulkanError. Included by .cc files of worker/vulkan only.
#pragma once

#include <string_view>

#include <vulkan/vulkan_core.h>

#include "common/base/result.h"
#include "worker/vulkan/vulkan_error.h"

namespace orch::worker::vulkan {

std::string_view result_name(VkResult result);

// `what` names the call and the size or object it was about.
Err<VulkanError> failure(std::string_view what, VkResult result);

}  // namespace orch::worker::vulkan
