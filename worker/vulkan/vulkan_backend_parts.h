// The backend over a device that the caller opened and whose kernels and validation it chose: for tests of wrong
// kernels and of silence under the validation layers.
#pragma once

#include "worker/vulkan/kernel_device.h"
#include "worker/vulkan/vulkan_backend.h"

namespace orch::worker::vulkan {

Result<std::unique_ptr<Backend>, VulkanError> create_backend_on(Model model, std::unique_ptr<KernelDevice> device,
                                                                const VulkanBackendOptions& options);

}  // namespace orch::worker::vulkan
