// The backend over generated models beside the scalar reference, on the device that tests run on. Test code only.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "worker/cpu/cpu_backend.h"
#include "worker/testing/tiny_model.h"
#include "worker/vulkan/test_device.h"
#include "worker/vulkan/vulkan_backend_parts.h"

namespace orch::worker::vulkan {

using ::orch::worker::testing::TinyShape;

inline constexpr std::uint32_t kPages = 40;

inline std::unique_ptr<Backend> scalar_backend(Model model, std::uint32_t context) {
  cpu::CpuBackendOptions options;
  options.context = context;
  options.pages = kPages;
  return std::move(cpu::create_cpu_backend(std::move(model), cpu::scalar_kernels(), options)).value();
}

inline std::unique_ptr<Backend> scalar_backend(const TinyShape& shape) {
  return scalar_backend(testing::tiny_model(shape), shape.context);
}

// What a test wants of the device.
struct Opening {
  KernelSet kernels = embedded_kernels();
  std::optional<OwnInputLimits> own_inputs = std::nullopt;  // none: what suits the device
  Validation validation = Validation::off;
};

inline Result<std::unique_ptr<KernelDevice>, VulkanError> open_device(const Opening& opening) {
  KernelDeviceOptions options;
  options.device = software_allowed();
  options.kernels = opening.kernels;
  options.own_inputs = opening.own_inputs;
  options.validation = opening.validation;
  return KernelDevice::Create(options);
}

inline Result<std::unique_ptr<Backend>, VulkanError> open_backend(Model model, std::uint32_t context,
                                                                  const Opening& opening) {
  auto opened = open_device(opening);
  if (!opened.ok()) return Err{opened.error()};
  VulkanBackendOptions options;
  options.context = context;
  options.pages = kPages;
  return create_backend_on(std::move(model), std::move(opened).value(), options);
}

inline std::unique_ptr<Backend> vulkan_backend(Model model, std::uint32_t context, const Opening& opening = {}) {
  auto made = open_backend(std::move(model), context, opening);
  if (!made.ok()) ADD_FAILURE() << made.error().message;
  return made.ok() ? std::move(made).value() : nullptr;
}

inline std::unique_ptr<Backend> vulkan_backend(const TinyShape& shape, const Opening& opening = {}) {
  return vulkan_backend(testing::tiny_model(shape), shape.context, opening);
}

// The first differing float, or npos.
inline std::size_t difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return i;
  }
  return std::string::npos;
}

inline std::size_t compare(const TinyShape& shape, std::size_t tokens, std::uint32_t chunk, Backend& device) {
  const auto ids = testing::tiny_tokens(shape, tokens, 7);
  const auto reference = scalar_backend(shape);
  const auto want = testing::run_tokens(*reference, ids, 64, shape.vocabulary);
  const auto got = testing::run_tokens(device, ids, chunk, shape.vocabulary);
  return difference(want, got);
}

// Widths that K-quants can have, and a mixture of types as files hold them.
inline TinyShape wide_shape(TensorType matrices, TensorType embedding, TensorType value_and_down) {
  TinyShape shape;
  shape.embedding = 256;
  shape.feed_forward = 512;
  shape.heads = 8;
  shape.head_dim = 32;
  shape.matrices = matrices;
  shape.embedding_type = embedding;
  shape.value_and_down = value_and_down;
  return shape;
}

}  // namespace orch::worker::vulkan
