// Which SIMD table this CPU can run; compiled for the baseline.
#include "worker/cpu/kernels_avx2.h"

namespace orch::worker::cpu {

#if defined(__x86_64__)
const CpuKernels* avx2_kernels() {
  static constexpr CpuKernels kTable{
      .name = "cpu-avx2",
      .quantise = avx2::quantise,
      .quantise_wide = avx2::quantise_wide,
      .rms_norm = avx2::rms_norm,
      .matmul = avx2::matmul,
      .attention = avx2::attention,
      .silu_mul = avx2::silu_mul,
      .gelu_mul = avx2::gelu_mul,
      .rope_adjacent = avx2::rope_adjacent,
      .rope_half = avx2::rope_half,
      .narrow = avx2::narrow,
  };
  static const bool available = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return available ? &kTable : nullptr;
}
#else
const CpuKernels* avx2_kernels() { return nullptr; }
#endif

}  // namespace orch::worker::cpu
