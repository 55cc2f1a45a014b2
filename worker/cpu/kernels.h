// The inner functions of the CPU backend as a table: a scalar one that follows the contract's text, and SIMD ones that
// must equal it to the byte (worker/core/numerics.h, worker/model/plan.h). Tests swap single entries to prove that a
// wrong kernel is seen. All functions are pure over their arguments and run on any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/core/backend.h"
#include "worker/model/q_tensor.h"

namespace orch::worker::cpu {

// The quantised form that K-quants read: groups of 256. cols is a multiple of 256.
struct WideRows {
  const std::int8_t* xq = nullptr;      // [row][cols]
  const float* dx = nullptr;            // [row][cols / 256]
  const std::int16_t* sum16 = nullptr;  // [row][cols / 16]
  const std::int16_t* sum32 = nullptr;  // [row][cols / 32]
};

// The inputs of a matmul: n rows of `cols` values, and their quantised forms (only the one that the weight's type reads
// need be there).
struct ActivationRows {
  std::uint32_t cols = 0;             // multiple of 32
  const float* x = nullptr;           // [row][cols]
  const std::int8_t* xq = nullptr;    // [row][cols], groups of 32
  const float* dx = nullptr;          // [row][cols / 32]
  const float* s = nullptr;           // [row][cols / 32]
  const std::int32_t* sum = nullptr;  // [row][cols / 32]
  WideRows wide;

  std::size_t groups() const { return cols / kTileCols; }
};

struct MatmulArgs {
  const QTensor* weight = nullptr;
  const float* bias = nullptr;      // [weight rows] or none
  const float* residual = nullptr;  // [row][out_stride] or none; may equal out
  float* out = nullptr;             // [row][out_stride]
  std::size_t out_stride = 0;       // >= weight rows
  ActivationRows in;
  std::uint32_t rows = 0;         // activation rows
  std::uint32_t group_begin = 0;  // 16-row groups of the weight that this call computes
  std::uint32_t group_end = 0;
};

// Consecutive rows of one sequence, all query heads of one KV head.
struct AttentionArgs {
  const float* query = nullptr;  // first row's heads: [row][query_stride], head h of the group at h * head_dim
  float* out = nullptr;          // same shape
  std::size_t stride = 0;        // of query and out, in floats
  std::uint32_t rows = 0;        // 1..kAttentionRowsMax / heads
  std::uint32_t heads = 0;       // query heads of this KV head
  std::uint32_t head_dim = 0;    // multiple of 8
  std::uint32_t first_position = 0;
  std::uint32_t window = 0;  // keys a row sees, its own included; 0: all
  float scale = 0;

  // The first key that row `row` sees.
  std::uint32_t first_key(std::uint32_t row) const {
    const std::uint32_t end = first_position + row + 1;
    return window != 0 && end > window ? end - window : 0;
  }
  // Page p of the sequence: its K tile [d / 8][32][8] and V tile [32][d] of this KV head, f16.
  const std::uint16_t* kv_base = nullptr;  // start of page 0's layer block
  std::size_t page_stride = 0;             // in f16 values
  std::size_t key_offset = 0;              // from page start, in f16 values
  std::size_t value_offset = 0;
  std::span<const PageId> pages;
  float* workspace = nullptr;  // attention_workspace_floats() values, this thread's own
};

inline constexpr std::uint32_t kAttentionStatesMax = 32;  // rows * heads of one call, unless heads alone is more

constexpr std::uint32_t attention_rows_max(std::uint32_t heads) {
  return heads >= kAttentionStatesMax ? 1 : kAttentionStatesMax / heads;
}

constexpr std::size_t attention_workspace_floats(std::uint32_t heads, std::uint32_t head_dim, std::uint32_t context) {
  const std::size_t states = std::size_t{attention_rows_max(heads)} * heads;
  const std::size_t splits = (std::size_t{context} + 255) / 256;
  return std::size_t{2} * 32 * head_dim + states * 256 + states * splits * (head_dim + 2) + 64;
}

using RopeKernel = void (*)(float* x, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t pairs,
                            const float* cosine, const float* sine);

struct CpuKernels {
  const char* name = "";
  // x[cols] -> xq, dx, s, sum in groups of 32.
  void (*quantise)(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, float* s,
                   std::int32_t* sum) = nullptr;
  // x[cols] -> xq, dx, sum16, sum32 in groups of 256.
  void (*quantise_wide)(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, std::int16_t* sum16,
                        std::int16_t* sum32) = nullptr;
  void (*rms_norm)(const float* x, const float* w, std::uint32_t n, float eps, float* y) = nullptr;
  void (*matmul)(const MatmulArgs& args) = nullptr;
  void (*attention)(const AttentionArgs& args) = nullptr;
  void (*silu_mul)(const float* gate, const float* up, std::uint32_t n, float* out) = nullptr;
  void (*gelu_mul)(const float* gate, const float* up, std::uint32_t n, float* out) = nullptr;
  // Turn `heads` heads in place, pairs (2i, 2i + 1) or (i, i + pairs); cosine and sine hold one position's pairs.
  RopeKernel rope_adjacent = nullptr;
  RopeKernel rope_half = nullptr;
  // f32 -> f16, n a multiple of 8; returns how many values saturated.
  std::uint32_t (*narrow)(const float* x, std::uint32_t n, std::uint16_t* out) = nullptr;
};

const CpuKernels& scalar_kernels();

// nullptr when this build, this CPU or its system lacks something; the second function of each pair names it, as in
// "AVX512BW, AVX512_VNNI", and is empty when nothing is missing.
const CpuKernels* avx2_kernels();
std::string missing_for_avx2();
const CpuKernels* avx512vnni_kernels();
std::string missing_for_avx512vnni();

// The SIMD tables that this CPU can run, the fastest last, and the one that `--isa auto` takes (OC-DEVICE-1005).
std::vector<const CpuKernels*> simd_kernels();
const CpuKernels& best_kernels();

}  // namespace orch::worker::cpu
