// The Vulkan backend against the scalar reference, to the byte, on generated models (ENGINE-RULES "How agreement is judged").
#include <gtest/gtest.h>

#include <cstring>

#include "worker/cpu/cpu_backend.h"
#include "worker/testing/tiny_model.h"
#include "worker/vulkan/test_device.h"
#include "worker/vulkan/vulkan_backend_parts.h"

namespace orch::worker::vulkan {
namespace {

using ::orch::worker::testing::TinyShape;

constexpr std::uint32_t kPages = 40;

std::unique_ptr<Backend> scalar_backend(const TinyShape& shape) {
  cpu::CpuBackendOptions options;
  options.context = shape.context;
  options.pages = kPages;
  return std::move(cpu::create_cpu_backend(testing::tiny_model(shape), cpu::scalar_kernels(), options)).value();
}

std::unique_ptr<Backend> vulkan_backend(const TinyShape& shape, const KernelSet& kernels = embedded_kernels()) {
  KernelDeviceOptions device;
  device.device = software_allowed();
  device.kernels = kernels;
  VulkanBackendOptions options;
  options.context = shape.context;
  options.pages = kPages;
  auto made = create_backend_on(testing::tiny_model(shape), device, options);
  if (!made.ok()) ADD_FAILURE() << made.error().message;
  return made.ok() ? std::move(made).value() : nullptr;
}

// The first differing float, or npos.
std::size_t difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return i;
  }
  return std::string::npos;
}

std::size_t compare(const TinyShape& shape, std::size_t tokens, std::uint32_t chunk, Backend& device) {
  const auto ids = testing::tiny_tokens(shape, tokens, 7);
  const auto reference = scalar_backend(shape);
  const auto want = testing::run_tokens(*reference, ids, 64, shape.vocabulary);
  const auto got = testing::run_tokens(device, ids, chunk, shape.vocabulary);
  return difference(want, got);
}

class VulkanBackendTest : public DeviceTest {};

TEST_F(VulkanBackendTest, ENGINE_RULES_class_x_logits_equal_the_scalar_reference_for_every_weight_type) {
  for (const TensorType type : {TensorType::q4_1, TensorType::q4_0, TensorType::q8_0, TensorType::f16, TensorType::f32}) {
    TinyShape shape;
    shape.matrices = type;
    const auto device = vulkan_backend(shape);
    ASSERT_NE(device, nullptr);
    EXPECT_EQ(compare(shape, 40, 16, *device), std::string::npos) << to_string(type);
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
