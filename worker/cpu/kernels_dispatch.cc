// Which SIMD tables this CPU can run; compiled for the baseline.
#include <array>

#include "worker/cpu/kernels_avx2.h"
#include "worker/cpu/kernels_avx512vnni.h"

namespace orch::worker::cpu {
namespace {

#if defined(__x86_64__)

constexpr CpuKernels kAvx2Table{
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

// Float weights are added one product after the other, so longer registers would only wait for the same additions.
void matmul_of_avx512vnni(const MatmulArgs& args) {
  if (is_quantised(args.weight->type)) return avx512vnni::matmul(args);
  avx2::matmul(args);
}

CpuKernels make_avx512vnni_table() {
  CpuKernels table = kAvx2Table;
  table.name = "cpu-avx512vnni";
  table.matmul = matmul_of_avx512vnni;
  return table;
}

struct Feature {
  const char* name = "";
  bool present = false;
};

std::string names_of_absent(std::span<const Feature> features) {
  std::string names;
  for (const Feature& feature : features) {
    if (!feature.present) names += (names.empty() ? "" : ", ") + std::string(feature.name);
  }
  return names;
}

#endif

}  // namespace

#if defined(__x86_64__)

// __builtin_cpu_supports asks CPUID, and XGETBV whether the system keeps the registers of the feature.

std::string missing_for_avx2() {
  const std::array<Feature, 2> features = {
      {{"AVX2", __builtin_cpu_supports("avx2") != 0}, {"F16C", __builtin_cpu_supports("f16c") != 0}}};
  return names_of_absent(features);
}

std::string missing_for_avx512vnni() {
  const std::array<Feature, 6> features = {{{"AVX2", __builtin_cpu_supports("avx2") != 0},
                                            {"F16C", __builtin_cpu_supports("f16c") != 0},
                                            {"AVX512F", __builtin_cpu_supports("avx512f") != 0},
                                            {"AVX512BW", __builtin_cpu_supports("avx512bw") != 0},
                                            {"AVX512VL", __builtin_cpu_supports("avx512vl") != 0},
                                            {"AVX512_VNNI", __builtin_cpu_supports("avx512vnni") != 0}}};
  return names_of_absent(features);
}

const CpuKernels* avx2_kernels() {
  static const bool available = missing_for_avx2().empty();
  return available ? &kAvx2Table : nullptr;
}

const CpuKernels* avx512vnni_kernels() {
  static const CpuKernels table = make_avx512vnni_table();
  static const bool available = missing_for_avx512vnni().empty();
  return available ? &table : nullptr;
}

#else

std::string missing_for_avx2() { return "AVX2"; }
std::string missing_for_avx512vnni() { return "AVX512F"; }
const CpuKernels* avx2_kernels() { return nullptr; }
const CpuKernels* avx512vnni_kernels() { return nullptr; }

#endif

std::vector<const CpuKernels*> simd_kernels() {
  std::vector<const CpuKernels*> tables;
  for (const CpuKernels* table : {avx2_kernels(), avx512vnni_kernels()}) {
    if (table != nullptr) tables.push_back(table);
  }
  return tables;
}

const CpuKernels& best_kernels() {
  const std::vector<const CpuKernels*> tables = simd_kernels();
  return tables.empty() ? scalar_kernels() : *tables.back();
}

}  // namespace orch::worker::cpu
