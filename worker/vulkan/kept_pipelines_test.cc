// Compiled pipelines from one start to the next: written by the first, given to the driver by the second. lavapipe
// keeps what it compiled in a store of its own and hands out a header alone, so that what a driver makes of the file is
// seen on the drivers of absent hardware (worker_vulkan_null_*).
#include <gtest/gtest.h>

#include <filesystem>

#include "common/testing/temp_folder.h"
#include "worker/testing/tiny_model.h"
#include "worker/vulkan/kernel_device.h"
#include "worker/vulkan/test_device.h"
#include "worker/vulkan/vulkan_backend.h"

namespace orch::worker::vulkan {
namespace {

namespace fs = std::filesystem;

using ::orch::worker::testing::TinyShape;

class KeptPipelinesTest : public DeviceTest {
 protected:
  std::unique_ptr<KernelDevice> open() const {
    KernelDeviceOptions options;
    options.device = software_allowed();
    options.compiles_only = true;
    options.pipeline_cache_directory = folder_.path() + "/pipelines";
    auto device = KernelDevice::Create(options);
    if (!device.ok()) ADD_FAILURE() << device.error().message;
    return device.ok() ? std::move(device).value() : nullptr;
  }
  std::vector<fs::path> files() const {
    std::vector<fs::path> found;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder_.path() + "/pipelines", none)) found.push_back(entry.path());
    return found;
  }

  orch::testing::TempFolder folder_;
};

// The whole way of a worker: load, end, load again.
TEST_F(KeptPipelinesTest, OC_DEVICE_1002_a_load_leaves_one_file_and_the_next_one_adds_nothing_to_it) {
  VulkanBackendOptions options;
  options.device = software_allowed();
  options.context = TinyShape().context;
  options.pages = 8;
  options.pipeline_cache_directory = folder_.path() + "/pipelines";
  ASSERT_TRUE(create_vulkan_backend(testing::tiny_model({}), options).ok());
  ASSERT_EQ(files().size(), 1U);
  const auto written = fs::last_write_time(files()[0]);
  const auto size = fs::file_size(files()[0]);
  ASSERT_GT(size, 0U);
  ASSERT_TRUE(create_vulkan_backend(testing::tiny_model({}), options).ok());
  ASSERT_EQ(files().size(), 1U);
  EXPECT_EQ(fs::file_size(files()[0]), size);
  EXPECT_EQ(fs::last_write_time(files()[0]), written) << "the driver had all of it: nothing to write";
}

// Before anything is compiled a device that was given the file holds what is in it; one without holds nothing.
TEST_F(KeptPipelinesTest, OC_DEVICE_1002_the_driver_is_given_what_the_file_holds) {
  std::size_t full = 0;
  {
    const auto first = open();
    ASSERT_NE(first, nullptr);
    const std::size_t empty = first->pipeline_cache_bytes();
    ASSERT_TRUE(first->pipeline(probe_variant()).ok());
    full = first->pipeline_cache_bytes();
    if (full == empty) GTEST_SKIP() << first->facts().entry.name << " gives out none of what it compiled";
    first->keep_pipelines();
  }
  const auto second = open();
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->pipeline_cache_bytes(), full);
}

}  // namespace
}  // namespace orch::worker::vulkan
