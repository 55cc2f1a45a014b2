// Runs a model's op list on a Vulkan device: class X, the same bytes as the CPU backend (.specs/engine-numerics.md).
// The seam to worker/backend; no Vulkan header needed. Devices, selection and errors: device_list.h, vulkan_error.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "worker/core/backend.h"
#include "worker/model/gguf_file.h"
#include "worker/model/weights.h"
#include "worker/vulkan/device_list.h"
#include "worker/vulkan/own_input_limits.h"
#include "worker/vulkan/vulkan_error.h"

namespace orch::worker {

struct VulkanBackendOptions {
  VulkanSelection device;
  std::uint32_t context = 0;                 // positions of one sequence, for the RoPE table
  std::uint32_t pages = 0;                   // KV pages of 32 tokens
  std::string pipeline_cache_directory;      // compiled pipelines are kept here between starts; empty: nowhere
  std::optional<OwnInputLimits> own_inputs;  // none: what suits the device
};

// Opens the device, runs the self-test of the numerics on it, takes the weights out of `model` and compiles the
// kernels. Takes seconds. An error is one of VulkanErrorKind with words that name the device and the limit. The backend
// is for one thread at a time; after a step that failed it refuses every further one with the same fault.
Result<std::unique_ptr<Backend>, VulkanError> create_vulkan_backend(Model model, const VulkanBackendOptions& options);

// What start-up takes for good: the staging buffer where memory is not shared, inputs and answers of the self-test.
inline constexpr std::uint64_t kVulkanStartBytes = 32ULL << 20U;

// What a model takes on a device beside its KV pages, told from the file before anything is loaded. The scratch is an
// upper bound: devices with small bindings take less.
std::uint64_t vulkan_weight_bytes(const GgufFile& file);
std::uint64_t vulkan_scratch_bytes(const GgufFile& file, const ModelConfig& config, std::uint32_t context);

// $XDG_CACHE_HOME or $HOME/.cache, then llama-orch/pipelines; empty without either.
std::string pipeline_cache_directory();

}  // namespace orch::worker
