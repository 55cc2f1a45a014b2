// Prints how many instructions each kernel table takes for the same matmul: on the emulated CPU the time stamp counter
// counts instructions. Nothing about time follows from it: instructions differ in cost, and memory does not exist here.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "worker/cpu/kernels.h"
#include "worker/testing/tiny_model.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace orch::worker::cpu {
namespace {

constexpr std::uint32_t kWeightRows = 64;
constexpr std::uint32_t kCols = 1024;

struct Inputs {
  std::uint32_t rows = 0;
  std::vector<float> x;
  std::vector<std::int8_t> xq, wide_xq;
  std::vector<float> dx, s, wide_dx;
  std::vector<std::int32_t> sum;
  std::vector<std::int16_t> sum16, sum32;

  explicit Inputs(std::uint32_t n)
      : rows(n),
        x(testing::random_floats(std::size_t{n} * kCols, n, 3.0F)),
        xq(x.size()),
        wide_xq(x.size()),
        dx(x.size() / 32),
        s(dx.size()),
        wide_dx(x.size() / 256),
        sum(dx.size()),
        sum16(x.size() / 16),
        sum32(dx.size()) {
    const CpuKernels& kernels = scalar_kernels();
    for (std::size_t at = 0; at < x.size(); at += kCols) {
      kernels.quantise(&x[at], kCols, &xq[at], &dx[at / 32], &s[at / 32], &sum[at / 32]);
      kernels.quantise_wide(&x[at], kCols, &wide_xq[at], &wide_dx[at / 256], &sum16[at / 16], &sum32[at / 32]);
    }
  }
};

// Instructions per 1,000 products of a weight and an activation.
double cost(const CpuKernels& kernels, const QTensor& w, const Inputs& in) {
  std::vector<float> out(std::size_t{in.rows} * kWeightRows);
  MatmulArgs args;
  args.weight = &w;
  args.out = out.data();
  args.out_stride = kWeightRows;
  args.in = {kCols, in.x.data(), in.xq.data(), in.dx.data(), in.s.data(), in.sum.data(), {}};
  args.in.wide = {in.wide_xq.data(), in.wide_dx.data(), in.sum16.data(), in.sum32.data()};
  args.rows = in.rows;
  args.group_end = w.row_groups();
#if defined(__x86_64__)
  const std::uint64_t start = __rdtsc();
  kernels.matmul(args);
  return static_cast<double>(__rdtsc() - start) * 1000.0 / (double{kWeightRows} * kCols * in.rows);
#else
  kernels.matmul(args);
  return 0;
#endif
}

int print_counts() {
  std::printf("instructions per 1,000 products, %u x %u\ntype   rows", kWeightRows, kCols);
  for (const CpuKernels* kernels : simd_kernels()) std::printf(" %16s", kernels->name);
  std::printf("\n");
  for (const TensorType type : kTensorTypes) {
    if (!is_quantised(type)) continue;
    const QTensor w = testing::random_tensor(type, kWeightRows, kCols, 4);
    for (const std::uint32_t rows : {1U, 4U, 8U}) {
      const Inputs in(rows);
      std::printf("%-6s %4u", to_string(type), rows);
      for (const CpuKernels* kernels : simd_kernels()) std::printf(" %16.1f", cost(*kernels, w, in));
      std::printf("\n");
    }
  }
  return 0;
}

}  // namespace
}  // namespace orch::worker::cpu

int main() { return orch::worker::cpu::print_counts(); }
