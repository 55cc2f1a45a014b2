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

VulkanDeviceEntry entry_of(std::uint32_t index, std::string type) {
  VulkanDeviceEntry device = entry(index, type == "cpu");
  device.type = std::move(type);
  return device;
}

const std::vector<VulkanDeviceEntry> all_kinds{
    entry_of(0, "cpu"),          entry_of(1, "other"),        entry_of(2, "integrated-gpu"), entry_of(3, "virtual-gpu"),
    entry_of(4, "discrete-gpu"), entry_of(5, "discrete-gpu"), entry_of(6, "integrated-gpu")};

TEST(VulkanSelect, OC_DEVICE_1011_discrete_before_integrated_before_others_before_software) {
  std::vector<std::uint32_t> order;
  for (const VulkanDeviceEntry& device : by_preference(all_kinds)) order.push_back(device.index);
  EXPECT_EQ(order, (std::vector<std::uint32_t>{4, 5, 2, 6, 1, 3, 0}));
  EXPECT_EQ(select_vulkan_device(all_kinds, {})->index, 4U);
  EXPECT_EQ(select_vulkan_device({all_kinds[0], all_kinds[1], all_kinds[2]}, {})->index, 2U);
}

// Of two devices one goes before the other, of three the first before the last: whatever the loader's order, one
// result.
TEST(VulkanSelect, OC_DEVICE_1011_the_order_is_total) {
  for (const VulkanDeviceEntry& a : all_kinds) {
    for (const VulkanDeviceEntry& b : all_kinds) {
      EXPECT_EQ(goes_before(a, b) + goes_before(b, a), a.index == b.index ? 0 : 1) << a.index << " " << b.index;
      for (const VulkanDeviceEntry& c : all_kinds) {
        if (goes_before(a, b) && goes_before(b, c)) {
          EXPECT_TRUE(goes_before(a, c));
        }
      }
    }
  }
}

TEST(VulkanMemory, OC_DEVICE_1013_what_the_driver_leaves_is_free_and_without_its_word_the_heap) {
  EXPECT_EQ(free_of_heap(1000, 0, 0), 1000U) << "no extension";
  EXPECT_EQ(free_of_heap(1000, 600, 0), 600U) << "others hold the rest";
  EXPECT_EQ(free_of_heap(1000, 600, 100), 500U);
  EXPECT_EQ(free_of_heap(1000, 5000, 100), 900U) << "no more than there is";
  EXPECT_EQ(free_of_heap(1000, 600, 700), 1U) << "full, not unknown";
}

TEST(VulkanMemory, OC_DEVICE_1010_a_device_in_the_hosts_memory_has_no_more_than_the_host) {
  VulkanDeviceEntry device = entry_of(0, "discrete-gpu");
  device.free_bytes = 700;
  device.memory_bytes = 1000;
  const auto free_of = [&device](std::uint64_t host_free) {
    return memory_of_device(device, {.free_bytes = host_free}).free_bytes;
  };
  const auto total_of = [&device](std::uint64_t host_total) {
    return memory_of_device(device, {.total_bytes = host_total}).total_bytes;
  };
  EXPECT_EQ(free_of(300), 700U);
  EXPECT_EQ(total_of(800), 1000U);
  for (const char* type : {"integrated-gpu", "cpu"}) {
    device = entry_of(0, type);
    device.free_bytes = 700;
    device.memory_bytes = 1000;
    EXPECT_EQ(total_of(800), 800U) << type;
    EXPECT_EQ(total_of(2000), 1000U) << type << ": the heap is a part of the host's memory";
    EXPECT_EQ(total_of(0), 1000U) << type;
    EXPECT_EQ(free_of(300), 300U) << type;
    EXPECT_EQ(free_of(900), 700U) << type;
    EXPECT_EQ(free_of(0), 700U) << type << ": nothing is known of the host";
    device.free_bytes = 0;
    EXPECT_EQ(free_of(300), 300U) << type;
  }
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
