// Device memory in few large blocks, cut up front to back and freed all at once: weights, KV pages and scratch live as
// long as the backend. Blocks are 256 MiB or the size of one larger request. Threads: as Device. Owns its blocks; must
// not outlive the device.
#pragma once

#include <memory>
#include <vector>

#include <vulkan/vulkan_core.h>

#include "common/base/result.h"
#include "worker/vulkan/device.h"
#include "worker/vulkan/vulkan_error.h"

namespace orch::worker::vulkan {

enum class MemoryUse : std::uint8_t {
  device,  // the shaders' own; mapped only where the device shares the host's memory
  host,    // written and read by the host, seen by shaders: step input, results, staging
};

struct MemorySlice {
  VkDeviceMemory memory = VK_NULL_HANDLE;
  VkDeviceSize offset = 0;
  std::byte* mapped = nullptr;  // null: not visible to the host
};

class MemoryArena {
 public:
  static Result<std::unique_ptr<MemoryArena>, VulkanError> Create(Device& device, MemoryUse use);
  ~MemoryArena();
  MemoryArena(const MemoryArena&) = delete;
  MemoryArena& operator=(const MemoryArena&) = delete;

  Result<MemorySlice, VulkanError> take(const VkMemoryRequirements& requirements);
  std::uint64_t bytes_taken() const { return bytes_taken_; }

 private:
  struct Block {
    VkDeviceMemory memory = VK_NULL_HANDLE;
    VkDeviceSize size = 0;
    VkDeviceSize used = 0;
    std::byte* mapped = nullptr;
  };

  MemoryArena(Device& device, std::uint32_t type, bool mappable) : device_(device), type_(type), mappable_(mappable) {}
  Status<VulkanError> grow(VkDeviceSize bytes);

  Device& device_;
  std::uint32_t type_;
  bool mappable_;
  std::vector<Block> blocks_;
  std::uint64_t bytes_taken_ = 0;
};

}  // namespace orch::worker::vulkan
