// How a model shall be run; the flags of workerd, checked. Value type.
#pragma once

#include <cstdint>
#include <string>

namespace orch::worker {

struct BackendOptions {
  std::string device = "auto";  // auto | cpu | vulkan[:index|:uuid]; auto never picks a software Vulkan device
  std::string isa = "auto";     // auto | scalar | avx2 | avx512vnni
  std::uint32_t threads = 0;    // 0: the cores this process may use
  std::uint32_t context = 0;    // tokens per slot; 0: the model's own, shrunk to memory
  std::uint32_t slots = 4;
  std::uint64_t memory_max_bytes = 0;  // 0: what the device has free, less the headroom
  std::uint32_t memory_sharers = 1;    // replicas that may take from that memory; without memory_max_bytes
};

// Rows of one step that every backend accepts.
inline constexpr std::uint32_t kStepRowsMax = 256;

}  // namespace orch::worker
