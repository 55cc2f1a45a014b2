// Known answers of the class-X contract, asked of the CPU and its kernel table before a model is served (ENGINE-RULES:
// "every device that passes the start-up self-test"): rounding of + - *, no contraction, int -> float, all 65,536 f16
// widenings, 2^20 narrowings, the quantiser, and each kernel once against the scalar reference. Takes about 20 ms on
// the calling thread.
#pragma once

#include "common/base/result.h"
#include "worker/cpu/kernels.h"
#include "worker/model/model_error.h"

namespace orch::worker::cpu {

// device_unavailable: names the function that gave another answer. Such a CPU or build does not serve.
Status<ModelError> self_test(const CpuKernels& kernels);

}  // namespace orch::worker::cpu
