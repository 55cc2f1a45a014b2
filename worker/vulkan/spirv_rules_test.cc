// The embedded kernels keep the arithmetic rules, and the reader that says so sees kernels that break them.
#include <gtest/gtest.h>

#include "gen/kernels/mutant_builtins.h"
#include "gen/kernels/mutant_imprecise_exp.h"
#include "worker/vulkan/spirv_rules.h"

namespace orch::worker::vulkan {
namespace {

TEST(SpirvRules, OC_NUM_1104_every_kernel_rounds_each_operation_and_asks_for_nearest_even) {
  for (std::size_t i = 0; i < kKernels; ++i) {
    const SpirvFindings findings = read_spirv(embedded_kernels().code[i]);
    EXPECT_TRUE(findings.violations.empty()) << "kernel " << i << ": " << findings.violations.front();
    EXPECT_TRUE(findings.rounding_mode) << "kernel " << i;
    EXPECT_GE(findings.float_operations, 2U) << "kernel " << i;
  }
}

TEST(SpirvRules, OC_NUM_1104_a_dropped_precise_is_seen) {
  EXPECT_FALSE(read_spirv(SpirvWords(mutant_imprecise_exp)).violations.empty());
}

TEST(SpirvRules, OC_NUM_1104_division_dot_fma_exp_inversesqrt_and_subgroup_sums_are_seen) {
  const SpirvFindings findings = read_spirv(SpirvWords(mutant_builtins));
  const auto has = [&](const std::string& what) {
    return std::find(findings.violations.begin(), findings.violations.end(), what) != findings.violations.end();
  };
  EXPECT_TRUE(has("OpFDiv"));
  EXPECT_TRUE(has("OpDot"));
  EXPECT_TRUE(has("OpGroupNonUniformFAdd"));
  EXPECT_TRUE(has("GLSL.std.450 instruction 27"));  // Exp
  EXPECT_TRUE(has("GLSL.std.450 instruction 32"));  // InverseSqrt
  EXPECT_TRUE(has("GLSL.std.450 instruction 50"));  // Fma
}

TEST(SpirvRules, OC_NUM_1104_the_rounding_request_can_be_taken_out_for_devices_without_it) {
  for (const SpirvWords code : embedded_kernels().code) {
    const auto plain = without_rounding_mode(code);
    EXPECT_LT(plain.size(), code.size());
    const SpirvFindings findings = read_spirv(plain);
    EXPECT_FALSE(findings.rounding_mode);
    EXPECT_TRUE(findings.violations.empty());
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
