// What goes wrong before a step is a typed error with words.
#include <gtest/gtest.h>

#include <cstdlib>

#include "worker/testing/tiny_model.h"
#include "worker/vulkan/test_device.h"
#include "worker/vulkan/vulkan_backend.h"

namespace orch::worker::vulkan {
namespace {

VulkanBackendOptions options() {
  VulkanBackendOptions backend;
  backend.device = software_allowed();
  backend.context = 1024;
  backend.pages = 8;
  return backend;
}

class VulkanErrorsTest : public DeviceTest {};

TEST_F(VulkanErrorsTest, OC_ENGINE_1007_a_missing_device_is_named) {
  VulkanBackendOptions backend = options();
  backend.device.index = 99;
  const auto made = create_vulkan_backend(testing::tiny_model({}), backend);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind, VulkanErrorKind::device_not_found);
  EXPECT_NE(made.error().message.find("99"), std::string::npos);
}

TEST_F(VulkanErrorsTest, OC_ENGINE_1006_too_many_pages_are_refused_with_the_numbers) {
  VulkanBackendOptions backend = options();
  backend.pages = 1U << 30U;
  const auto made = create_vulkan_backend(testing::tiny_model({}), backend);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind, VulkanErrorKind::out_of_memory);
  EXPECT_NE(made.error().message.find("KV pages"), std::string::npos) << made.error().message;
}

TEST_F(VulkanErrorsTest, OC_ENGINE_1006_the_estimate_of_a_device_covers_what_is_allocated) {
  testing::TinyShape wide;
  wide.architecture = "gemma3";
  wide.window = 90;
  wide.embedding = 256;
  wide.feed_forward = 512;
  wide.heads = 8;
  wide.head_dim = 32;
  wide.matrices = TensorType::q4_k;
  wide.value_and_down = TensorType::q5_1;
  for (const testing::TinyShape& shape : {testing::TinyShape(), wide}) {
    const std::vector<std::byte> bytes = testing::tiny_model_file(shape);
    const auto file = GgufFile::parse(bytes);
    ASSERT_TRUE(file.ok());
    Model model = testing::tiny_model(shape);
    const ModelConfig config = model.config;
    const auto made = create_vulkan_backend(std::move(model), options());
    ASSERT_TRUE(made.ok()) << made.error().message;
    const BackendInfo info = (*made)->info();
    EXPECT_EQ(vulkan_weight_bytes(**file), info.weight_bytes);
    const std::uint64_t scratch = vulkan_scratch_bytes(**file, config, options().context);
    constexpr std::uint64_t kRoundings = 256;  // buffers are multiples of 16 bytes
    EXPECT_GE(scratch + kRoundings, info.scratch_bytes + kVulkanStartBytes);
  }
}

TEST_F(VulkanErrorsTest, OC_ENGINE_1008_an_odd_head_dimension_is_refused_by_name) {
  Model model = testing::tiny_model({});
  model.config.head_dim = 12;
  const auto made = create_vulkan_backend(std::move(model), options());
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind, VulkanErrorKind::unsupported_model);
}

// Last in the file's order does not matter: the variable is read by each new instance, and put back.
TEST(VulkanErrors, OC_ENGINE_1007_no_driver_is_said_in_words) {
  const char* old = std::getenv("VK_ICD_FILENAMES");
  const std::string before = old == nullptr ? "" : old;
  setenv("VK_ICD_FILENAMES", "/nonexistent/driver.json", 1);
  const auto devices = list_vulkan_devices();
  if (old == nullptr)
    unsetenv("VK_ICD_FILENAMES");
  else
    setenv("VK_ICD_FILENAMES", before.c_str(), 1);
  ASSERT_FALSE(devices.ok());
  EXPECT_EQ(devices.error().kind, VulkanErrorKind::no_driver);
  EXPECT_NE(devices.error().message.find("install a Vulkan driver"), std::string::npos) << devices.error().message;
}

}  // namespace
}  // namespace orch::worker::vulkan
