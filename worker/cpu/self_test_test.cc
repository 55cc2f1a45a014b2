// ENGINE-RULES: a device that answers anything else does not serve. Each entry of the table is broken once and must be
// named.
#include "worker/cpu/self_test.h"

#include <gtest/gtest.h>

#include "worker/cpu/kernels_fixture.h"
#include "worker/cpu/kernels_scalar.h"
#include "worker/cpu/mutants.h"

namespace orch::worker::cpu {
namespace {

std::string answer(const CpuKernels& kernels) {
  const auto result = self_test(kernels);
  return result.ok() ? "" : result.error().message;
}

TEST(CpuSelfTest, OC_ENGINE_1011_passes_on_every_table_of_this_machine) {
  EXPECT_EQ(answer(scalar_kernels()), "");
  for (const CpuKernels* simd : simd_kernels()) EXPECT_EQ(answer(without_emulator_faults(*simd)), "") << simd->name;
}

TEST(CpuSelfTest, OC_ENGINE_1011_names_each_broken_kernel) {
  CpuKernels k = scalar_kernels();
  k.quantise = [](const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, float* s, std::int32_t* sum) {
    scalar::quantise(x, cols, xq, dx, s, sum);
    xq[7] = static_cast<std::int8_t>(xq[7] ^ 1);
  };
  EXPECT_NE(answer(k).find("the quantiser"), std::string::npos);

  k = scalar_kernels();
  k.narrow = [](const float* x, std::uint32_t n, std::uint16_t* out) {
    const std::uint32_t saturated = scalar::narrow(x, n, out);
    if (out[0] == 0x0001) out[0] = 0;  // a flushed denormal
    return saturated;
  };
  EXPECT_NE(answer(k).find("f16 narrowing"), std::string::npos);

  k = scalar_kernels();
  k.rms_norm = [](const float* x, const float* w, std::uint32_t n, float eps, float* y) {
    scalar::rms_norm(x, w, n, eps * 10.0F, y);
  };
  EXPECT_NE(answer(k).find("rms_norm"), std::string::npos);

  k = scalar_kernels();
  k.silu_mul = [](const float* gate, const float* up, std::uint32_t n, float* out) {
    scalar::silu_mul(gate, up, n, out);
    for (std::uint32_t i = 0; i < n; ++i)
      if (gate[i] < -30.0F) out[i] = 1e-12F;
  };
  EXPECT_NE(answer(k).find("silu_mul"), std::string::npos);

  k = scalar_kernels();
  k.rope_adjacent = scalar::rope_half;
  EXPECT_NE(answer(k).find("adjacent"), std::string::npos);
  k = scalar_kernels();
  k.rope_half = scalar::rope_adjacent;
  EXPECT_NE(answer(k).find("half"), std::string::npos);
}

TEST(CpuSelfTest, OC_ENGINE_1011_sees_the_kernel_mutants) {
  int seen = 0;
  for (const Mutant& mutant : mutants()) {
    if (mutant.change_kernels == nullptr) continue;
    EXPECT_NE(answer(mutant.change_kernels()), "") << mutant.name;
    ++seen;
  }
  EXPECT_EQ(seen, 4);
}

TEST(CpuSelfTest, OC_ENGINE_1011_sees_a_wrong_widening) {
  CpuKernels k = scalar_kernels();
  k.matmul = [](const MatmulArgs& args) {
    scalar::matmul(args);
    if (args.weight->rows == 2048) args.out[1] = args.out[1] * 2.0F;  // pattern 1, the smallest denormal
  };
  EXPECT_NE(answer(k).find("widening"), std::string::npos);
}

}  // namespace
}  // namespace orch::worker::cpu
