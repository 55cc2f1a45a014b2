#include "worker/cpu/kernels.h"

namespace orch::worker::cpu {

const CpuKernels* avx2_kernels() { return nullptr; }

}  // namespace orch::worker::cpu
