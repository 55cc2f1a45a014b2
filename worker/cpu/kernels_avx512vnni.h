// The matmul of the AVX-512 table; the other entries are those of AVX2, which a CPU with AVX-512 has too. The file is
// compiled with the AVX-512 flags, so nothing but this function may have external linkage there (kernels_avx2.h).
#pragma once

#include "worker/cpu/kernels.h"

namespace orch::worker::cpu::avx512vnni {

// Quantised weights only.
void matmul(const MatmulArgs& args);

}  // namespace orch::worker::cpu::avx512vnni
