// The computation of one step as data (ENGINE-RULES interface 6): a list of fused operations on named activation
// buffers. Backends execute the list; none knows an architecture. What each operation computes, to the byte:
//
//   embed           out = store(dequantised row `token` of weight): .specs OC-NUM-1209; then, where scale is not 1,
//                   out = store(out * scale).
//   norm_matmul     h = rms_norm(in, norm, eps); each part: part.out = matmul(part.weight, h) (+ bias). One
//                   quantisation of h for each group size that the parts' types read.
//   rope_store_kv   with query_norm / key_norm: each head of q / k = rms_norm(head, norm, eps) first. q and k rotated
//   by
//                   their position's row of the table (the local one where `local`); k and v written to the layer's KV
//                   page as f16.
//                   Pair (a, b): (store(a * cos - b * sin), store(a * sin + b * cos)), products rounded before the sum.
//   attention       out = attention(q, KV pages of `layer`) over keys 0..position; with a window over its last `window`
//                   keys, the row's own included.
//   matmul_residual out = store((matmul(weight, in) + bias) + residual); out and residual may be one buffer, and
//   residual
//                   may be none.
//   silu_mul        out = store(silu(gate) * up); gelu_mul: store(gelu(gate) * up).
//   norm_add        out = store(rms_norm(in, norm, eps) + residual); out and residual may be one buffer.
//
// matmul: the activation row is quantised in groups of 32 (numerics.h) for quantised weights (256 for K-quants), and
// used as f32 for f16, bf16 and f32 weights. tot = acc = +0; for each block of 32: t = (dw * dx) * float(idot) [q4_1,
// q5_1: then t = t + m * s]; acc = acc + t; after each 8 blocks (256 elements) and at the end: tot = tot + acc, acc =
// +0. Float weights: t = w * x per element, the same splits. K-quants: one block is one split, t = (d * dx) * float(P)
// [q4_k, q5_k:
// - (dmin * dx) * float(N)], P = sum of sub-scale * idot, N = sum of sub-minimum * sum(xq). Then + bias when there is
// one, then + residual when there is one, then store(). q of q4_0, q5_0 and q6_k is the stored one minus 8, 16 and 32.
//
// attention, per row and head h (kv head h / heads_per_kv): for each split of 256 key positions from 0: s_j = (sum over
// d in index order from +0 of q[d] * k_j[d]) * scale; m = exact maximum; p_j = exp(s_j - m); l = R(p) with index j mod
// 256, masked keys +0; o[d] = sum over visible keys in order from +0 of p_j * v_j[d]. Merge: M = maximum of m over
// splits; in split order from +0: w = exp(m - M), L = L + l * w, O[d] = O[d] + o[d] * w. Result store(O[d] * rcp(L)).
#pragma once

#include <cstdint>
#include <vector>

namespace orch::worker {

struct ModelConfig;
struct Weights;

using TensorId = std::uint32_t;  // into Weights::tensors
inline constexpr TensorId kNoTensor = 0xFFFF'FFFFU;

// Activation buffers of a step, one row per token. Widths in elements come from buffer_width().
// `branch`: what attention or feed-forward adds, while it is normed.
enum class Buffer : std::uint8_t { none, residual, query, key, value, attended, gate, up, activated, logits, branch };
inline constexpr std::uint32_t kBuffers = 11;

enum class OpKind : std::uint8_t {
  embed,
  norm_matmul,
  rope_store_kv,
  attention,
  matmul_residual,
  silu_mul,
  gelu_mul,
  norm_add
};

struct MatmulPart {
  TensorId weight = kNoTensor;
  TensorId bias = kNoTensor;
  Buffer out = Buffer::none;
};

struct Op {
  OpKind kind = OpKind::embed;
  std::uint32_t layer = 0;
  Buffer in = Buffer::none;
  Buffer out = Buffer::none;
  Buffer residual = Buffer::none;   // matmul_residual, norm_add
  TensorId norm = kNoTensor;        // norm_matmul, norm_add
  TensorId query_norm = kNoTensor;  // rope_store_kv
  TensorId key_norm = kNoTensor;
  bool local = false;             // rope_store_kv
  std::uint32_t window = 0;       // attention; 0: none
  float scale = 1.0F;             // embed
  std::vector<MatmulPart> parts;  // embed, matmul_residual: one; norm_matmul: one or more sharing one input
  bool wanted_rows_only = false;  // the head: only rows with want_logits, compacted in row order
};

struct Plan {
  std::vector<Op> ops;  // in execution order
};

std::uint32_t buffer_width(const ModelConfig& config, Buffer buffer);

// The op list of config.architecture; the tensors it names exist in `weights` with checked shapes.
Plan build_plan(const ModelConfig& config, const Weights& weights);

}  // namespace orch::worker
