// Which SIMD table this CPU can run; compiled for the baseline.
#include "worker/cpu/kernels_avx2.h"
#include "worker/cpu/kernels_scalar.h"

namespace orch::worker::cpu {

#if defined(__x86_64__)
const CpuKernels* avx2_kernels() {
  static constexpr CpuKernels kTable{"cpu-avx2",          avx2::quantise,    avx2::rms_norm,
                                     avx2::matmul,        avx2::attention,   avx2::silu_mul,
                                     avx2::rope_adjacent, scalar::rope_half, avx2::narrow};
  static const bool available = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return available ? &kTable : nullptr;
}
#else
const CpuKernels* avx2_kernels() { return nullptr; }
#endif

}  // namespace orch::worker::cpu
