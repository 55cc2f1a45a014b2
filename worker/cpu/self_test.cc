#include "worker/cpu/self_test.h"

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "worker/core/numerics.h"
#include "worker/cpu/float_state.h"
#include "worker/cpu/kernels_scalar.h"

namespace orch::worker::cpu {
namespace {

namespace num = numerics;

ModelError wrong(const CpuKernels& kernels, const std::string& what) {
  return {ModelErrorKind::device_unavailable, "self-test",
          std::string(kernels.name) + " gives another answer for " + what};
}

std::vector<float> values(std::size_t count, std::uint64_t seed, float scale) {
  Prng prng(seed);
  std::vector<float> out(count);
  for (float& v : out) v = (static_cast<float>(static_cast<std::int32_t>(prng.next() >> 40)) * 0x1p-23F - 1.0F) * scale;
  return out;
}

bool same_bytes(const void* a, const void* b, std::size_t size) { return std::memcmp(a, b, size) == 0; }
bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && same_bytes(a.data(), b.data(), a.size() * sizeof(float));
}

// Through volatile, so that the CPU answers and not the compiler.
bool arithmetic_is_right() {
  volatile float one = 1.0F;
  volatile float tie = 0x1p-24F;
  volatile float odd = 1.0F + 0x1p-23F;
  volatile float x = 1.0F + 0x1p-12F;
  volatile std::int32_t past24 = (1 << 24) + 1;
  volatile std::int32_t past27 = (1 << 27) + 12;
  const float a = one;
  const float b = x;
  const float product_minus_one = b * b - a;  // fused: 2^-11 + 2^-24
  return one + tie == 1.0F && odd + tie == 1.0F + 0x1p-22F && one - tie * 0.5F == 1.0F && b * b == 1.0F + 0x1p-11F &&
         product_minus_one == 0x1p-11F && static_cast<float>(past24) == 0x1p24F &&
         static_cast<float>(past27) == 0x1p27F + 16.0F && static_cast<std::int32_t>(-1.75F * a) == -1;
}

QTensor tensor_of(TensorType type, std::uint32_t rows, std::uint32_t cols, std::uint64_t seed) {
  QTensor w;
  w.type = type;
  w.rows = rows;
  w.cols = cols;
  w.layout = TensorLayout::tiled;
  const std::size_t tiles = std::size_t{w.row_groups()} * w.blocks();
  w.quants = AlignedBytes(tiles * tile_bytes(type));
  w.scales = AlignedBytes(tiles * tile_scales(type) * sizeof(std::uint16_t));
  Prng prng(seed);
  if (type == TensorType::f32) {
    const std::vector<float> floats = values(w.quants.size() / 4, seed, 1.0F);
    std::memcpy(w.quants.data(), floats.data(), w.quants.size());
  } else if (type == TensorType::f16 || type == TensorType::bf16) {
    const std::uint64_t mask = type == TensorType::f16 ? 0xBBFFU : 0xBF9FU;  // finite, up to 2
    for (std::size_t i = 0; i < w.quants.size() / 2; ++i) {
      w.quants.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(prng.next() & mask);
    }
  } else {
    for (std::size_t i = 0; i < w.quants.size(); ++i)
      w.quants.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(prng.next());
  }
  for (std::size_t i = 0; i < w.scales.size() / 2; ++i) {
    w.scales.as<std::uint16_t>()[i] = static_cast<std::uint16_t>(prng.next() & 0x9FFFU);  // finite, small
  }
  return w;
}

struct Activations {
  std::vector<float> x;
  std::vector<std::int8_t> xq;
  std::vector<float> dx;
  std::vector<float> s;
  std::vector<std::int32_t> sum;
  std::vector<std::int8_t> wide_xq;
  std::vector<float> wide_dx;
  std::vector<std::int16_t> sum16;
  std::vector<std::int16_t> sum32;

  Activations(const CpuKernels& kernels, std::vector<float> input, std::uint32_t cols)
      : x(std::move(input)),
        xq(x.size()),
        dx(x.size() / 32),
        s(dx.size()),
        sum(dx.size()),
        wide_xq(x.size()),
        wide_dx(x.size() / 256),
        sum16(x.size() / 16),
        sum32(x.size() / 32),
        cols_(cols) {
    for (std::size_t at = 0; at < x.size(); at += cols) {
      kernels.quantise(&x[at], cols, &xq[at], &dx[at / 32], &s[at / 32], &sum[at / 32]);
      if (cols % kWideTileCols != 0) continue;
      kernels.quantise_wide(&x[at], cols, &wide_xq[at], &wide_dx[at / 256], &sum16[at / 16], &sum32[at / 32]);
    }
  }
  std::vector<float> times(const CpuKernels& kernels, const QTensor& w) const {
    MatmulArgs args;
    args.weight = &w;
    args.in = {cols_,
               x.data(),
               xq.data(),
               dx.data(),
               s.data(),
               sum.data(),
               {wide_xq.data(), wide_dx.data(), sum16.data(), sum32.data()}};
    args.rows = static_cast<std::uint32_t>(x.size() / cols_);
    std::vector<float> out(std::size_t{args.rows} * w.rows);
    args.out = out.data();
    args.out_stride = w.rows;
    args.group_end = w.row_groups();
    kernels.matmul(args);
    return out;
  }

 private:
  std::uint32_t cols_;
};

// All 65,536 patterns as weights of a product with unit vectors; patterns that are not finite are left out.
bool widening_is_right(const CpuKernels& kernels) {
  constexpr std::uint32_t kRows = 2048;
  QTensor w;
  w.type = TensorType::f16;
  w.rows = kRows;
  w.cols = kTileCols;
  w.layout = TensorLayout::tiled;
  w.quants = AlignedBytes(std::size_t{kRows} * kTileCols * 2);
  const auto pattern = [](std::size_t i) { return static_cast<std::uint16_t>((i & 0x7C00U) == 0x7C00U ? 0U : i); };
  for (std::size_t i = 0; i < 65'536; ++i) w.quants.as<std::uint16_t>()[i] = pattern(i);
  std::vector<float> unit(std::size_t{kTileCols} * kTileCols);
  for (std::size_t k = 0; k < kTileCols; ++k) unit[k * kTileCols + k] = 1.0F;
  const std::vector<float> got = Activations(kernels, unit, kTileCols).times(kernels, w);
  for (std::size_t i = 0; i < 65'536; ++i) {
    const std::size_t tile = i / (kTileRows * kTileCols);
    const std::size_t k = i / kTileRows % kTileCols;
    const std::size_t row = tile * kTileRows + i % kTileRows;
    const float exact = num::store(0.0F + num::f16_to_f32(pattern(i)));
    if (num::bits_of(got[k * kRows + row]) != num::bits_of(exact)) return false;
  }
  return true;
}

bool narrowing_is_right(const CpuKernels& kernels) {
  for (std::uint32_t i = 0; i < (1U << 20); i += 8) {
    float x[8];
    std::uint16_t a[8];
    std::uint16_t b[8];
    for (std::uint32_t j = 0; j < 8; ++j) x[j] = num::float_of((i + j) << 12 | ((i * 2654435761U) >> 20));
    if (scalar::narrow(x, 8, a) != kernels.narrow(x, 8, b) || !same_bytes(a, b, sizeof(a))) return false;
  }
  return true;
}

bool quantiser_is_right(const CpuKernels& kernels) {
  for (std::uint64_t seed = 1; seed <= 64; ++seed) {
    const std::vector<float> x = values(256, seed, num::float_of(static_cast<std::uint32_t>(64 + seed) << 23));
    const Activations a(scalar_kernels(), x, 256);
    const Activations b(kernels, x, 256);
    if (a.xq != b.xq || a.sum != b.sum || !same(a.dx, b.dx) || !same(a.s, b.s)) return false;
    if (a.wide_xq != b.wide_xq || a.sum16 != b.sum16 || a.sum32 != b.sum32 || !same(a.wide_dx, b.wide_dx)) return false;
  }
  return true;
}

bool matmul_is_right(const CpuKernels& kernels, TensorType type) {
  const std::uint32_t cols = is_wide(type) ? 512 : 320;
  const QTensor w = tensor_of(type, 40, cols, 9);
  const Activations in(scalar_kernels(), values(std::size_t{5} * cols, 10, 2.0F), cols);
  return same(in.times(scalar_kernels(), w), in.times(kernels, w));
}

bool norm_is_right(const CpuKernels& kernels) {
  const std::vector<float> x = values(352, 11, 3.0F);
  const std::vector<float> w = values(352, 12, 1.0F);
  std::vector<float> a(352);
  std::vector<float> b(352);
  scalar::rms_norm(x.data(), w.data(), 352, 1e-5F, a.data());
  kernels.rms_norm(x.data(), w.data(), 352, 1e-5F, b.data());
  return same(a, b);
}

bool gates_are_right(const CpuKernels& kernels) {
  const std::vector<float> gate = values(4096, 13, 40.0F);
  const std::vector<float> up = values(4096, 14, 2.0F);
  std::vector<float> a(4096);
  std::vector<float> b(4096);
  scalar::silu_mul(gate.data(), up.data(), 4096, a.data());
  kernels.silu_mul(gate.data(), up.data(), 4096, b.data());
  if (!same(a, b)) return false;
  scalar::gelu_mul(gate.data(), up.data(), 4096, a.data());
  kernels.gelu_mul(gate.data(), up.data(), 4096, b.data());
  return same(a, b);
}

bool rope_is_right(RopeKernel reference, RopeKernel kernel) {
  std::vector<float> a = values(192, 15, 2.0F);
  std::vector<float> b = a;
  const std::vector<float> cosine = values(32, 16, 1.0F);
  const std::vector<float> sine = values(32, 17, 1.0F);
  reference(a.data(), 3, 64, 32, cosine.data(), sine.data());
  kernel(b.data(), 3, 64, 32, cosine.data(), sine.data());
  return same(a, b);
}

// 300 keys: a full split, a short one, and four rows that see different numbers of keys.
std::vector<float> attend(const CpuKernels& kernels, std::uint32_t window) {
  constexpr std::uint32_t kHeads = 3;
  constexpr std::uint32_t kDim = 64;
  constexpr std::uint32_t kRows = 4;
  const std::vector<PageId> pages = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  constexpr std::size_t kTile = std::size_t{kPageTokens} * kDim;
  std::vector<std::uint16_t> kv(pages.size() * kTile * 2);
  const std::vector<float> floats = values(kv.size(), 18, 2.0F);
  for (std::size_t i = 0; i < kv.size(); ++i) kv[i] = num::f32_to_f16(floats[i]);
  const std::vector<float> query = values(std::size_t{kRows} * kHeads * kDim, 19, 3.0F);
  std::vector<float> out(query.size());
  std::vector<float> workspace(attention_workspace_floats(kHeads, kDim, 320));
  AttentionArgs args;
  args.query = query.data();
  args.out = out.data();
  args.stride = std::size_t{kHeads} * kDim;
  args.rows = kRows;
  args.heads = kHeads;
  args.head_dim = kDim;
  args.first_position = 296;
  args.window = window;
  args.scale = 0.125F;
  args.kv_base = kv.data();
  args.page_stride = kTile * 2;
  args.value_offset = kTile;
  args.pages = pages;
  args.workspace = workspace.data();
  kernels.attention(args);
  return out;
}

}  // namespace

Status<ModelError> self_test(const CpuKernels& kernels) {
  const FloatState state(false);
  struct Check {
    std::string name;
    std::function<bool()> passes;
  };
  std::vector<Check> checks = {
      {"rounding of + - * without fusing", [] { return arithmetic_is_right(); }},
      {"the quantiser", [&] { return quantiser_is_right(kernels); }},
      {"f16 widening", [&] { return widening_is_right(kernels); }},
      {"f16 narrowing", [&] { return narrowing_is_right(kernels); }},
      {"rms_norm", [&] { return norm_is_right(kernels); }},
      {"silu_mul and gelu_mul", [&] { return gates_are_right(kernels); }},
      {"rope, adjacent pairs", [&] { return rope_is_right(scalar::rope_adjacent, kernels.rope_adjacent); }},
      {"rope, half pairs", [&] { return rope_is_right(scalar::rope_half, kernels.rope_half); }},
      {"attention", [&] { return same(attend(scalar_kernels(), 0), attend(kernels, 0)); }},
      {"attention under a window", [&] { return same(attend(scalar_kernels(), 42), attend(kernels, 42)); }},
  };
  for (const TensorType type : kTensorTypes) {
    checks.push_back(
        {std::string("matmul ") + to_string(type), [&kernels, type] { return matmul_is_right(kernels, type); }});
  }
  for (const Check& check : checks) {
    if (!check.passes()) return Err{wrong(kernels, check.name)};
  }
  return Ok{};
}

}  // namespace orch::worker::cpu
