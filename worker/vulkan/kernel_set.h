// The SPIR-V of every kernel, embedded at build time. Tests replace single entries to prove that a wrong kernel is
// seen.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace orch::worker::vulkan {

enum class Kernel : std::uint8_t {
  embed,
  prepare,
  norm,
  matmul_quant,
  matmul_wide,
  matmul_float,
  rope_store_kv,
  attention,
  probe,  // single functions of numerics.glsl, for the self-test
};
inline constexpr std::size_t kKernels = 9;

using SpirvWords = std::span<const std::uint32_t>;

struct KernelSet {
  std::array<SpirvWords, kKernels> code;

  SpirvWords of(Kernel kernel) const { return code[static_cast<std::size_t>(kernel)]; }
};

const KernelSet& embedded_kernels();

// The module without its request for round-to-nearest-even, for a device that does not offer the mode: whether it
// rounds so anyway is for the self-test to say.
std::vector<std::uint32_t> without_rounding_mode(SpirvWords module);

}  // namespace orch::worker::vulkan
