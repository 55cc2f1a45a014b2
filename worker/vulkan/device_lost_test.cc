// A device that is lost between two submissions: a typed error with words, and no further use of the device.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "worker/testing/tiny_model.h"
#include "worker/vulkan/test_device.h"
#include "worker/vulkan/vulkan_backend.h"

namespace orch::worker::vulkan {
namespace {

using ::orch::worker::testing::TinyShape;

// A variable of the environment for the life of this object. The loader reads its own at each new instance.
class Setting {
 public:
  Setting(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) before_ = old;
    setenv(name, value, 1);
  }
  ~Setting() {
    if (before_)
      setenv(name_, before_->c_str(), 1);
    else
      unsetenv(name_);
  }
  Setting(const Setting&) = delete;
  Setting& operator=(const Setting&) = delete;

 private:
  const char* name_;
  std::optional<std::string> before_;
};

class DeviceLostTest : public DeviceTest {
 protected:
  static Result<std::unique_ptr<Backend>, VulkanError> make_backend() {
    VulkanBackendOptions options;
    options.device = software_allowed();
    options.context = TinyShape().context;
    options.pages = 8;
    return create_vulkan_backend(testing::tiny_model({}), options);
  }

  const Setting layers_{"VK_LAYER_PATH", ORCH_LOSING_LAYER_DIRECTORY};
  const Setting layer_{"VK_INSTANCE_LAYERS", "VK_LAYER_ORCH_losing_device"};
};

TEST_F(DeviceLostTest, OC_DEVICE_1004_a_loss_between_steps_is_typed_and_ends_the_backend) {
  auto made = make_backend();
  ASSERT_TRUE(made.ok()) << made.error().message;
  Backend& backend = **made;
  const std::vector<Row> rows{{1, 0, 0, true}};
  const std::vector<std::vector<PageId>> tables{{0}};
  std::vector<float> logits(TinyShape().vocabulary);
  ASSERT_TRUE(backend.step({rows, tables}, {logits}).ok());
  std::string first;
  {
    const Setting losing("VK_ORCH_LOSE_DEVICE_AFTER", "0");
    const auto stepped = backend.step({rows, tables}, {logits});
    ASSERT_FALSE(stepped.ok());
    EXPECT_EQ(stepped.error().kind, BackendFaultKind::device_lost);
    first = stepped.error().message;
    EXPECT_NE(first.find("VK_ERROR_DEVICE_LOST"), std::string::npos) << first;
    EXPECT_NE(first.find(backend.info().device_name), std::string::npos) << first;
  }
  const auto again = backend.step({rows, tables}, {logits});
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().message, first);
  EXPECT_EQ(again.error().kind, BackendFaultKind::device_lost);
  EXPECT_FALSE(backend.copy_page(0, 1).ok());
}

TEST_F(DeviceLostTest, OC_DEVICE_1004_a_device_without_memory_for_a_step_is_told_from_a_lost_one) {
  auto made = make_backend();
  ASSERT_TRUE(made.ok()) << made.error().message;
  const std::vector<Row> rows{{1, 0, 0, true}};
  const std::vector<std::vector<PageId>> tables{{0}};
  std::vector<float> logits(TinyShape().vocabulary);
  const Setting losing("VK_ORCH_LOSE_DEVICE_AFTER", "0");
  const Setting memory("VK_ORCH_LOSE_DEVICE_TO", "memory");
  const auto stepped = (*made)->step({rows, tables}, {logits});
  ASSERT_FALSE(stepped.ok());
  EXPECT_EQ(stepped.error().kind, BackendFaultKind::out_of_memory);
  EXPECT_NE(stepped.error().message.find("VK_ERROR_OUT_OF_DEVICE_MEMORY"), std::string::npos);
}

TEST_F(DeviceLostTest, OC_DEVICE_1004_a_loss_while_loading_refuses_the_load) {
  const Setting losing("VK_ORCH_LOSE_DEVICE_AFTER", "3");  // inside the self-test
  const auto made = make_backend();
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind, VulkanErrorKind::device_lost);
}

}  // namespace
}  // namespace orch::worker::vulkan
