#include "worker/vulkan/device_list.h"

#include <gtest/gtest.h>

namespace orch::worker {
namespace {

VulkanDeviceEntry entry(std::uint32_t index, bool software, std::string excluded = "") {
  VulkanDeviceEntry device;
  device.index = index;
  device.uuid = std::string(31, '0') + static_cast<char>('a' + index);
  device.name = "device " + std::to_string(index);
  device.software = software;
  device.excluded_reason = std::move(excluded);
  return device;
}

VulkanSelection by_index(std::uint32_t index) {
  VulkanSelection selection;
  selection.index = index;
  return selection;
}

TEST(VulkanSelect, OC_ENGINE_1007_a_software_device_is_never_picked_automatically) {
  const std::vector<VulkanDeviceEntry> devices{entry(0, true)};
  const auto refused = select_vulkan_device(devices, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, VulkanErrorKind::device_not_found);
  EXPECT_NE(refused.error().message.find("vulkan:0"), std::string::npos);
}

TEST(VulkanSelect, OC_ENGINE_1007_a_software_device_answers_to_index_uuid_and_permission) {
  const std::vector<VulkanDeviceEntry> devices{entry(0, true)};
  EXPECT_TRUE(select_vulkan_device(devices, by_index(0)).ok());
  VulkanSelection by_uuid;
  by_uuid.uuid = devices[0].uuid;
  EXPECT_TRUE(select_vulkan_device(devices, by_uuid).ok());
  VulkanSelection permitted;
  permitted.software = SoftwareDevices::allow;
  EXPECT_TRUE(select_vulkan_device(devices, permitted).ok());
}

TEST(VulkanSelect, OC_ENGINE_1007_hardware_goes_before_software_whatever_the_order) {
  VulkanSelection permitted;
  permitted.software = SoftwareDevices::allow;
  const auto chosen = select_vulkan_device({entry(0, true), entry(1, false)}, permitted);
  ASSERT_TRUE(chosen.ok());
  EXPECT_EQ(chosen.value().index, 1U);
}

TEST(VulkanSelect, OC_ENGINE_1007_an_excluded_device_is_refused_with_its_reason) {
  const std::vector<VulkanDeviceEntry> devices{entry(0, false, "no compute queue"), entry(1, false)};
  const auto refused = select_vulkan_device(devices, by_index(0));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, VulkanErrorKind::unsuitable);
  EXPECT_NE(refused.error().message.find("no compute queue"), std::string::npos);
  const auto automatic = select_vulkan_device(devices, {});
  ASSERT_TRUE(automatic.ok());
  EXPECT_EQ(automatic.value().index, 1U);
}

TEST(VulkanSelect, OC_ENGINE_1007_an_unknown_index_or_uuid_says_so) {
  EXPECT_EQ(select_vulkan_device({entry(0, false)}, by_index(3)).error().kind, VulkanErrorKind::device_not_found);
  VulkanSelection by_uuid;
  by_uuid.uuid = std::string(32, 'f');
  EXPECT_EQ(select_vulkan_device({entry(0, false)}, by_uuid).error().kind, VulkanErrorKind::device_not_found);
}

TEST(VulkanSelect, OC_ENGINE_1007_the_device_flag_takes_a_name_an_index_or_a_uuid) {
  ASSERT_TRUE(parse_vulkan_selection("vulkan").has_value());
  EXPECT_FALSE(parse_vulkan_selection("vulkan")->index.has_value());
  EXPECT_EQ(parse_vulkan_selection("vulkan:12")->index, 12U);
  EXPECT_EQ(parse_vulkan_selection("vulkan:6D657361-3232-2e33-2e36-000000000000")->uuid,
            "6d65736132322e332e36000000000000");
  for (const char* wrong :
       {"", "cpu", "vulkan:", "vulkan:x", "vulkan:-1", "vulkan:1x", "vulkan0", "vulkan:99999999999"}) {
    EXPECT_FALSE(parse_vulkan_selection(wrong).has_value()) << wrong;
  }
}

}  // namespace
}  // namespace orch::worker
