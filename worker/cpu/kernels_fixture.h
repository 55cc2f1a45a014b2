// What the tests of the kernel tables share: each test runs for every SIMD table that this CPU has. In the emulated CPU
// (test-harness/emulated-cpu), which takes some ten seconds for a second of a real one, sizes and repetitions are
// smaller.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "worker/core/numerics.h"
#include "worker/cpu/kernels.h"

namespace orch::worker::cpu {

#ifdef ORCH_EMULATED
inline constexpr bool kEmulated = true;
#else
inline constexpr bool kEmulated = false;
#endif

class Kernels : public ::testing::TestWithParam<const CpuKernels*> {
 protected:
  const CpuKernels& reference = scalar_kernels();
  const CpuKernels* simd = GetParam();
};

// Bochs 2.7 rounds 2^-25 to the smallest f16 with VCVTPS2PH, where half way goes to the even zero: there, and only
// there, a table narrows like the reference.
inline CpuKernels without_emulator_faults(CpuKernels table) {
  if (kEmulated) table.narrow = scalar_kernels().narrow;
  return table;
}

inline void expect_equal_bytes(const std::vector<float>& a, const std::vector<float>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (numerics::bits_of(a[i]) == numerics::bits_of(b[i])) continue;
    FAIL() << what << " at " << i << ": " << a[i] << " and " << b[i];
  }
}

}  // namespace orch::worker::cpu
