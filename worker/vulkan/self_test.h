// Known answers of the class-X contract, asked of the device at start: rounding of + - *, no fused multiply-add,
// reciprocal, square root, exponential, SiLU, GELU, every f16 widening, 2^20 narrowings, integer products. The expected
// bytes are computed here by worker/core/numerics.h. A device that answers anything else does not serve.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/vulkan/kernel_device.h"

namespace orch::worker::vulkan {

// Order as in worker/kernels/probe.comp.
enum class Probe : std::uint32_t {
  add,
  multiply,
  product_minus_one,
  rcp,
  rsqrt,
  exp,
  silu_mul,
  narrow_f16,
  widen_f16,
  quantise,
  int_to_float,
  four_products,
  store,
  int_multiply,
  gelu_mul,
};
inline constexpr std::uint32_t kProbes = 15;

const char* to_string(Probe probe);

struct ProbeCase {
  Probe probe = Probe::add;
  std::vector<std::uint32_t> a;
  std::vector<std::uint32_t> b;
};

std::vector<ProbeCase> self_test_cases();
std::uint32_t expected(Probe probe, std::uint32_t a, std::uint32_t b);

// Runs one case on the device and returns its answers.
Result<std::vector<std::uint32_t>, VulkanError> ask(KernelDevice& device, const ProbeCase& question);

// self_test: names the function, the input and both answers.
Status<VulkanError> self_test(KernelDevice& device);

}  // namespace orch::worker::vulkan
