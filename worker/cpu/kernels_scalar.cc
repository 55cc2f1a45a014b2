#include "worker/cpu/kernels_scalar.h"

#include <vector>

#include "worker/core/numerics.h"
#include "worker/model/tile_values.h"

namespace orch::worker::cpu {
namespace scalar {

namespace num = numerics;

void quantise(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, float* s, std::int32_t* sum) {
  for (std::uint32_t b = 0; b < cols / num::kQuantBlock; ++b) {
    const num::QuantGroup group = num::quantise_group(x + b * num::kQuantBlock, xq + b * num::kQuantBlock);
    dx[b] = group.dx;
    s[b] = group.s;
    sum[b] = group.sum;
  }
}

void quantise_wide(const float* x, std::uint32_t cols, std::int8_t* xq, float* dx, std::int16_t* sum16,
                   std::int16_t* sum32) {
  for (std::uint32_t at = 0; at < cols; at += num::kWideGroup) {
    dx[at / num::kWideGroup] = num::quantise_wide_group(x + at, xq + at, sum16 + at / 16, sum32 + at / 32);
  }
}

void rms_norm(const float* x, const float* w, std::uint32_t n, float eps, float* y) { num::rms_norm(x, w, n, eps, y); }

namespace {

// The term t of one block of 32 of a quantised row.
float block_term(const QTensor& w, std::uint32_t group, std::uint32_t lane, std::uint32_t block,
                 const ActivationRows& in, std::uint32_t row) {
  const std::uint8_t* tile = w.tile(group, block);
  const std::uint16_t* scale = w.tile_scale(group, block);
  const std::size_t g = row * in.groups() + block;
  const std::int8_t* xq = in.xq + std::size_t{row} * in.cols + std::size_t{block} * kTileCols;
  std::int32_t idot = 0;
  for (std::uint32_t k = 0; k < kTileCols; ++k) idot += quant_at(w.type, tile, lane, k) * xq[k];
  float t = (num::f16_to_f32(scale[lane]) * in.dx[g]) * static_cast<float>(idot);
  if (has_minimum(w.type)) t = t + num::f16_to_f32(scale[kTileRows + lane]) * in.s[g];
  return t;
}

// The term t of one block of 256 of a K-quant row: P = sum of sub-scale * idot, N = sum of sub-minimum * sum of xq.
float wide_term(const QTensor& w, std::uint32_t group, std::uint32_t lane, std::uint32_t block,
                const ActivationRows& in, std::uint32_t row) {
  const std::uint8_t* tile = w.tile(group, block);
  const std::uint16_t* scale = w.tile_scale(group, block);
  const float dx = in.wide.dx[std::size_t{row} * (in.cols / kWideTileCols) + block];
  const std::size_t first = std::size_t{row} * in.cols + std::size_t{block} * kWideTileCols;
  std::int32_t p = 0;
  for (std::uint32_t k = 0; k < kWideTileCols; ++k) {
    p += sub_scale(w.type, tile, lane, k) * (quant_at(w.type, tile, lane, k) * in.wide.xq[first + k]);
  }
  const float t = (num::f16_to_f32(scale[lane]) * dx) * static_cast<float>(p);
  if (!has_minimum(w.type)) return t;
  std::int32_t n = 0;
  for (std::uint32_t k = 0; k < kWideTileCols; k += 32) {
    n += sub_minimum(w.type, tile, lane, k) * in.wide.sum32[(first + k) / 32];
  }
  return t - (num::f16_to_f32(scale[kTileRows + lane]) * dx) * static_cast<float>(n);
}

// One output element before bias and residual: splits of 256, block terms in order.
float dot(const QTensor& w, std::uint32_t group, std::uint32_t lane, const ActivationRows& in, std::uint32_t row) {
  const std::uint32_t split_blocks = num::kSplitElements / tile_cols(w.type);
  float tot = 0.0F;
  for (std::uint32_t first = 0; first < w.blocks(); first += split_blocks) {
    float acc = 0.0F;
    for (std::uint32_t block = first; block < w.blocks() && block < first + split_blocks; ++block) {
      if (is_wide(w.type)) {
        acc = acc + wide_term(w, group, lane, block, in, row);
        continue;
      }
      if (is_quantised(w.type)) {
        acc = acc + block_term(w, group, lane, block, in, row);
        continue;
      }
      const float* x = in.x + std::size_t{row} * in.cols + std::size_t{block} * kTileCols;
      for (std::uint32_t k = 0; k < kTileCols; ++k) acc = acc + float_at(w.type, w.tile(group, block), lane, k) * x[k];
    }
    tot = tot + acc;
  }
  return tot;
}

}  // namespace

void matmul(const MatmulArgs& args) {
  const QTensor& w = *args.weight;
  for (std::uint32_t row = 0; row < args.rows; ++row) {
    for (std::uint32_t group = args.group_begin; group < args.group_end; ++group) {
      for (std::uint32_t lane = 0; lane < kTileRows && group * kTileRows + lane < w.rows; ++lane) {
        const std::size_t column = std::size_t{group} * kTileRows + lane;
        float y = dot(w, group, lane, args.in, row);
        if (args.bias != nullptr) y = y + args.bias[column];
        if (args.residual != nullptr) y = y + args.residual[row * args.out_stride + column];
        args.out[row * args.out_stride + column] = num::store(y);
      }
    }
  }
}

namespace {

struct SplitState {
  float m = 0;
  float l = 0;
  std::vector<float> o;
};

const std::uint16_t* page_of(const AttentionArgs& args, std::uint32_t position) {
  return args.kv_base + args.pages[position / kPageTokens] * args.page_stride;
}

float score(const AttentionArgs& args, const float* q, std::uint32_t position) {
  const std::uint16_t* keys = page_of(args, position) + args.key_offset;
  float sum = 0.0F;
  for (std::uint32_t d = 0; d < args.head_dim; ++d) {
    const std::uint16_t k = keys[((d / 8) * kPageTokens + position % kPageTokens) * 8 + d % 8];
    sum = sum + q[d] * num::f16_to_f32(k);
  }
  return sum * args.scale;
}

// Keys begin..end (exclusive) of the split that starts at `first`; those before `begin` are masked.
SplitState attend_split(const AttentionArgs& args, const float* q, std::uint32_t first, std::uint32_t begin,
                        std::uint32_t end) {
  std::vector<float> p(end - first, 0.0F);
  for (std::uint32_t j = begin; j < end; ++j) p[j - first] = score(args, q, j);
  SplitState state;
  state.m = p[begin - first];
  for (std::uint32_t j = begin; j < end; ++j) state.m = p[j - first] > state.m ? p[j - first] : state.m;
  for (std::uint32_t j = begin; j < end; ++j) p[j - first] = num::exp(p[j - first] - state.m);
  state.l = num::tree_sum(p.size(), [&p](std::size_t i) { return p[i]; });
  state.o.assign(args.head_dim, 0.0F);
  for (std::uint32_t j = begin; j < end; ++j) {
    const std::uint16_t* v = page_of(args, j) + args.value_offset + std::size_t{j % kPageTokens} * args.head_dim;
    for (std::uint32_t d = 0; d < args.head_dim; ++d) state.o[d] = state.o[d] + p[j - first] * num::f16_to_f32(v[d]);
  }
  return state;
}

void attend(const AttentionArgs& args, const float* q, std::uint32_t row, float* out) {
  const std::uint32_t position = args.first_position + row;
  const std::uint32_t first_key = args.first_key(row);
  std::vector<SplitState> splits;
  for (std::uint32_t first = first_key / num::kAttentionSplit * num::kAttentionSplit; first <= position;
       first += num::kAttentionSplit) {
    const std::uint32_t end = position + 1 - first > num::kAttentionSplit ? first + num::kAttentionSplit : position + 1;
    splits.push_back(attend_split(args, q, first, first_key > first ? first_key : first, end));
  }
  float m = splits[0].m;
  for (const SplitState& split : splits) m = split.m > m ? split.m : m;
  float l = 0.0F;
  std::vector<float> o(args.head_dim, 0.0F);
  for (const SplitState& split : splits) {
    const float w = num::exp(split.m - m);
    l = l + split.l * w;
    for (std::uint32_t d = 0; d < args.head_dim; ++d) o[d] = o[d] + split.o[d] * w;
  }
  const float inverse = num::rcp(l);
  for (std::uint32_t d = 0; d < args.head_dim; ++d) out[d] = num::store(o[d] * inverse);
}

}  // namespace

void attention(const AttentionArgs& args) {
  for (std::uint32_t row = 0; row < args.rows; ++row) {
    for (std::uint32_t head = 0; head < args.heads; ++head) {
      const std::size_t at = row * args.stride + std::size_t{head} * args.head_dim;
      attend(args, args.query + at, row, args.out + at);
    }
  }
}

void silu_mul(const float* gate, const float* up, std::uint32_t n, float* out) {
  for (std::uint32_t i = 0; i < n; ++i) out[i] = num::silu_mul(gate[i], up[i]);
}

void gelu_mul(const float* gate, const float* up, std::uint32_t n, float* out) {
  for (std::uint32_t i = 0; i < n; ++i) out[i] = num::gelu_mul(gate[i], up[i]);
}

namespace {

void turn(float& a, float& b, float cosine, float sine) {
  const float x = a * cosine - b * sine;
  const float y = a * sine + b * cosine;
  a = num::store(x);
  b = num::store(y);
}

}  // namespace

void rope_adjacent(float* x, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t pairs, const float* cosine,
                   const float* sine) {
  for (std::uint32_t head = 0; head < heads; ++head, x += head_dim) {
    for (std::uint32_t i = 0; i < pairs; ++i) turn(x[2 * i], x[2 * i + 1], cosine[i], sine[i]);
  }
}

void rope_half(float* x, std::uint32_t heads, std::uint32_t head_dim, std::uint32_t pairs, const float* cosine,
               const float* sine) {
  for (std::uint32_t head = 0; head < heads; ++head, x += head_dim) {
    for (std::uint32_t i = 0; i < pairs; ++i) turn(x[i], x[i + pairs], cosine[i], sine[i]);
  }
}

std::uint32_t narrow(const float* x, std::uint32_t n, std::uint16_t* out) {
  std::uint32_t saturated = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    out[i] = num::f32_to_f16(x[i]);
    saturated += num::f16_saturates(x[i]) ? 1U : 0U;
  }
  return saturated;
}

}  // namespace scalar

const CpuKernels& scalar_kernels() {
  static constexpr CpuKernels kTable{
      .name = "cpu-scalar",
      .quantise = scalar::quantise,
      .quantise_wide = scalar::quantise_wide,
      .rms_norm = scalar::rms_norm,
      .matmul = scalar::matmul,
      .attention = scalar::attention,
      .silu_mul = scalar::silu_mul,
      .gelu_mul = scalar::gelu_mul,
      .rope_adjacent = scalar::rope_adjacent,
      .rope_half = scalar::rope_half,
      .narrow = scalar::narrow,
  };
  return kTable;
}

}  // namespace orch::worker::cpu
