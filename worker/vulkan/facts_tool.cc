// vulkan_facts [--device-kind=gpu|cpu] [--mebibytes=N] [--identity]
// What a Vulkan device is and what it costs apart from any model, one fact a line: its name, a tab, its value. The
// first hardware device; --device-kind=cpu takes a software device instead, as a rehearsal that says so. --identity
// prints only who the device is. Exit status: 64 usage, 69 no such device, 70 the device failed or computes other bytes
// than the contract.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/vulkan/device_timing.h"
#include "worker/vulkan/self_test.h"

namespace orch::worker::vulkan {
namespace {

constexpr int kExitUsage = 64;
constexpr int kExitNoDevice = 69;
constexpr int kExitDevice = 70;
constexpr std::uint64_t kHardwareMebibytes = 1024;  // far more than any cache holds
constexpr std::uint64_t kSoftwareMebibytes = 64;
constexpr std::uint64_t kMebibytesMax = 16384;

struct Options {
  bool software = false;
  bool identity_only = false;
  std::uint64_t mebibytes = 0;  // 0: by the kind of device
};

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    constexpr std::string_view kMebibytes = "--mebibytes=";
    if (argument == "--device-kind=gpu") {
      options.software = false;
    } else if (argument == "--device-kind=cpu") {
      options.software = true;
    } else if (argument == "--identity") {
      options.identity_only = true;
    } else if (argument.starts_with(kMebibytes)) {
      const std::string_view digits = argument.substr(kMebibytes.size());
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), options.mebibytes);
      if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
      if (options.mebibytes == 0 || options.mebibytes > kMebibytesMax) return std::nullopt;
    } else {
      return std::nullopt;
    }
  }
  return options;
}

void fact(const std::string& name, const std::string& value) { std::printf("%s\t%s\n", name.c_str(), value.c_str()); }
void fact(const std::string& name, std::uint64_t value) { fact(name, std::to_string(value)); }

std::string figures(const Spread& spread, double unit) {
  char text[160];
  std::snprintf(text, sizeof text, "least %.3f median %.3f most %.3f runs %zu", spread.least / unit,
                spread.median / unit, spread.most / unit, spread.runs);
  return text;
}

Result<VulkanSelection, VulkanError> choose(bool software) {
  VulkanSelection selection;  // the first hardware device, and no other
  if (!software) return selection;
  ORCH_TRY(devices, list_vulkan_devices());
  const auto found = std::find_if(devices.begin(), devices.end(),
                                  [](const VulkanDeviceEntry& d) { return d.software && d.excluded_reason.empty(); });
  if (found == devices.end()) {
    return Err{VulkanError{VulkanErrorKind::device_not_found, "no software Vulkan device can serve"}};
  }
  selection.index = found->index;
  return selection;
}

void print_identity(const PhysicalDeviceFacts& facts) {
  fact("device", facts.entry.name);
  fact("device type", facts.entry.type);
  fact("device selection", "vulkan:" + std::to_string(facts.entry.index));
  fact("device uuid", facts.entry.uuid);
  fact("driver", facts.entry.driver);
  fact("driver uuid", facts.driver_uuid);
}

std::string flags_of(VkMemoryPropertyFlags flags) {
  std::string text;
  if ((flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT) != 0) text += " device-local";
  if ((flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) != 0) text += " host-visible";
  if ((flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT) != 0) text += " host-coherent";
  if ((flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT) != 0) text += " host-cached";
  return text.empty() ? " plain" : text;
}

void print_limits(const PhysicalDeviceFacts& facts, const Tuning& tuning) {
  fact("device-local memory bytes", facts.entry.memory_bytes);
  fact("subgroup size", facts.entry.subgroup_size);
  fact("subgroup shuffle in compute", facts.shuffle ? "yes" : "no");
  fact("round to nearest even in float32", facts.rte_float32 ? "offered" : "not offered");
  fact("bytes of one allocation at most", facts.allocation_bytes_max);
  fact("bytes of one storage binding at most", facts.storage_range_max);
  fact("texels of one view at most", facts.texels_max);
  fact("shared memory bytes of a workgroup", facts.shared_bytes_max);
  fact("compute queue family", facts.compute_family);
  for (std::uint32_t i = 0; i < facts.memory.memoryTypeCount; ++i) {
    const VkMemoryType& type = facts.memory.memoryTypes[i];
    fact("memory type " + std::to_string(i), "heap " + std::to_string(type.heapIndex) + " of " +
                                                 std::to_string(facts.memory.memoryHeaps[type.heapIndex].size) +
                                                 " bytes:" + flags_of(type.propertyFlags));
  }
  fact("tuning", "width " + std::to_string(tuning.width) + ", rows a lane " + std::to_string(tuning.rows_per_lane) +
                     ", keys a lane " + std::to_string(tuning.keys_per_lane) + ", shuffle " +
                     std::to_string(tuning.shuffle) + ", own inputs up to " + std::to_string(tuning.own_inputs.rows) +
                     " rows, " + std::to_string(tuning.own_inputs.splits) + " splits");
}

bool among(const std::vector<VkExtensionProperties>& extensions, const char* name) {
  return std::any_of(extensions.begin(), extensions.end(), [name](const VkExtensionProperties& extension) {
    return std::strcmp(extension.extensionName, name) == 0;
  });
}

// What tuning would like to know: integer dot products, cooperative matrices, half floats.
void print_extensions(VkPhysicalDevice device) {
  VkPhysicalDeviceProperties plain{};
  vkGetPhysicalDeviceProperties(device, &plain);
  fact("Vulkan version", std::to_string(VK_API_VERSION_MAJOR(plain.apiVersion)) + "." +
                             std::to_string(VK_API_VERSION_MINOR(plain.apiVersion)) + "." +
                             std::to_string(VK_API_VERSION_PATCH(plain.apiVersion)));
  fact("nanoseconds of a timestamp", std::to_string(plain.limits.timestampPeriod));
  std::uint32_t count = 0;
  vkEnumerateDeviceExtensionProperties(device, nullptr, &count, nullptr);
  std::vector<VkExtensionProperties> extensions(count);
  vkEnumerateDeviceExtensionProperties(device, nullptr, &count, extensions.data());
  extensions.resize(count);
  for (const char* name :
       {"VK_KHR_shader_integer_dot_product", "VK_KHR_cooperative_matrix", "VK_NV_cooperative_matrix",
        "VK_NV_cooperative_matrix2", "VK_KHR_16bit_storage", "VK_KHR_8bit_storage", "VK_KHR_shader_float16_int8",
        "VK_KHR_buffer_device_address", "VK_EXT_subgroup_size_control", "VK_EXT_memory_budget"}) {
    fact(name, among(extensions, name) ? "offered" : "not offered");
  }
  if (!among(extensions, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME)) return;
  VkPhysicalDeviceShaderIntegerDotProductProperties dot{};
  dot.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES;
  VkPhysicalDeviceProperties2 properties{};
  properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
  properties.pNext = &dot;
  vkGetPhysicalDeviceProperties2(device, &properties);
  fact("four signed bytes in one dot product",
       dot.integerDotProduct4x8BitPackedSignedAccelerated == VK_TRUE ? "accelerated" : "not accelerated");
}

Status<VulkanError> print_self_test(const VulkanSelection& selection) {
  KernelDeviceOptions options;
  options.device = selection;
  auto device = KernelDevice::Create(options);
  if (!device.ok()) return Err{device.error()};
  const Status<VulkanError> tested = self_test(**device);
  fact("self-test of the numerics", tested.ok() ? "the contract's bytes" : "FAILED: " + tested.error().message);
  return tested;
}

Status<VulkanError> print_costs(const VulkanSelection& selection, std::uint64_t mebibytes) {
  ORCH_TRY(timer, DeviceTimer::Create(selection, mebibytes << 20U));
  for (const auto& [between, name] : {std::pair{Between::barriers, "dispatches and barriers"},
                                      std::pair{Between::nothing, "dispatches without barriers"}}) {
    for (const std::uint32_t count : {1U, 100U, 1000U}) {
      ORCH_TRY(cost, timer->empty_dispatches(count, between));
      char recorded[64];
      std::snprintf(recorded, sizeof recorded, ", recorded in %.1f", cost.record_us);
      fact(std::to_string(count) + " empty " + name + ", us", figures(cost.run_us, 1) + recorded);
    }
  }
  fact("bytes read at a time", timer->bytes());
  ORCH_TRY(texels, timer->read_rate(ReadPath::texels));
  fact("read through texel buffers, GB/s", figures(texels, 1e9));
  ORCH_TRY(storage, timer->read_rate(ReadPath::storage));
  fact("read through storage buffers, GB/s", figures(storage, 1e9));
  ORCH_TRY(copied, timer->copy_rate());
  fact("copied, bytes read and written, GB/s", figures(copied, 1e9));
  ORCH_TRY(uploaded, timer->upload_rate());
  fact("from the host, GB/s", figures(uploaded, 1e9));
  ORCH_TRY(downloaded, timer->download_rate());
  fact("to the host, GB/s", figures(downloaded, 1e9));
  return Ok{};
}

int refuse(const VulkanError& error) {
  const bool absent = error.kind == VulkanErrorKind::no_driver || error.kind == VulkanErrorKind::device_not_found ||
                      error.kind == VulkanErrorKind::unsuitable;
  std::fprintf(stderr, "vulkan_facts: %s: %s\n", absent ? "NO_DEVICE_OF_THIS_KIND" : "DEVICE_FAILED",
               error.message.c_str());
  return absent ? kExitNoDevice : kExitDevice;
}

int run(const Options& options) {
  const auto selection = choose(options.software);
  if (!selection.ok()) return refuse(selection.error());
  auto instance = Instance::Create(Validation::off);
  if (!instance.ok()) return refuse(instance.error());
  const std::vector<VkPhysicalDevice> physical = (*instance)->physical_devices();
  std::vector<VulkanDeviceEntry> entries;
  entries.reserve(physical.size());
  for (std::uint32_t i = 0; i < physical.size(); ++i) entries.push_back(inspect(physical[i], i).entry);
  const auto chosen = select_vulkan_device(entries, *selection);
  if (!chosen.ok()) return refuse(chosen.error());
  const PhysicalDeviceFacts facts = inspect(physical[chosen->index], chosen->index);
  if (facts.entry.software) fact("REHEARSAL", "this is a software device on the CPU; no figure here is a GPU's");
  print_identity(facts);
  if (options.identity_only) return 0;
  print_limits(facts, tuning_for(facts));
  print_extensions(physical[chosen->index]);
  std::fflush(stdout);
  if (auto tested = print_self_test(*selection); !tested.ok()) return refuse(tested.error());
  const std::uint64_t usual = facts.entry.software ? kSoftwareMebibytes : kHardwareMebibytes;
  auto printed = print_costs(*selection, options.mebibytes != 0 ? options.mebibytes : usual);
  return printed.ok() ? 0 : refuse(printed.error());
}

}  // namespace
}  // namespace orch::worker::vulkan

int main(int argc, char** argv) {
  const auto options = orch::worker::vulkan::parse(argc, argv);
  if (!options) {
    std::fprintf(stderr, "usage: vulkan_facts [--device-kind=gpu|cpu] [--mebibytes=1..16384] [--identity]\n");
    return orch::worker::vulkan::kExitUsage;
  }
  return orch::worker::vulkan::run(*options);
}
