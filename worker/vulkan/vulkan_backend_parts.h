// The backend over a device whose kernels and validation the caller chose: for tests of wrong kernels and of silence under the
// validation layers.
#pragma once

#include "worker/vulkan/kernel_device.h"
#include "worker/vulkan/vulkan_backend.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<Backend>, VulkanError> create_backend_on(Model model, const KernelDeviceOptions& device_options,
                                                                const VulkanBackendOptions& options);

}  // namespace orch::worker::vulkan
