// One split of 256 keys of one row for kHeads query heads that share a kv head: m = maximum score, l = R(exp(s - m)),
// o[d] = sum in key order of p * v[d]. Partials go to out as {m, l, 0, 0, o[0..dims)} per (row, head, split). Grid: x
// = kv head * chunks + chunk of kHeads heads, y = rows, z = splits; a workgroup beyond a row's splits ends at once.
// Pages: rope_store_kv.comp. Under a window the keys before it are masked:
// +0 in R and left out elsewhere; a split of nothing else ends at once.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kHeads = 3;  // at most 4
layout(constant_id = 2) const uint kKeys = 4;   // keys per lane and pass
layout(constant_id = 3) const uint kDims = 64;  // of a head, a multiple of 8
layout(constant_id = 4) const uint kShuffle = 0;  // 1: lanes exchange weights (as bits), no shared memory

const uint kSplit = 256u;
const uint kHeadsMax = 4u;
const uint kWidthMax = 64u;
const uint kLeaves = 8u;

layout(set = 0, binding = 1) uniform usamplerBuffer activations;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer pages;        // 4 words a texel: 8 f16
layout(set = 0, binding = 6) writeonly buffer Out { float partials[]; };

layout(push_constant) uniform Push {
  uint stride;        // of an activation row, in texels
  uint query;         // offset in it, in texels
  uint heads;
  uint kv_heads;
  uint heads_per_kv;
  uint chunks;        // ceil(heads_per_kv / kHeads)
  uint splits_max;    // partials per (row, head)
  uint window;        // keys a row sees, its own included; 0: all
  float scale;
};

shared float weights[kHeads * kSplit];  // scores, then exp(score - maximum)
shared float lane_maxima[kHeads * kWidthMax];
shared float leaf_sums[kHeads * kLeaves];

float plus(float a, float b) {
  precise float sum = a + b;
  return sum;
}

float times(float a, float b) {
  precise float product = a * b;
  return product;
}

float add_product(float acc, float a, float b) {
  precise float sum = acc + a * b;
  return sum;
}

float dot_step(float acc, vec4 q, vec4 k) {
  return add_product(add_product(add_product(add_product(acc, q.x, k.x), q.y, k.y), q.z, k.z), q.w, k.w);
}

vec4 add_scaled(vec4 acc, float p, vec4 v) {
  return vec4(add_product(acc.x, p, v.x), add_product(acc.y, p, v.y), add_product(acc.z, p, v.z),
              add_product(acc.w, p, v.w));
}

uint page_of(uint table, uint key) { return step_word(table + key / 32u); }

// Scores of this lane's keys begin .. keys - 1 of the split into weights[]; their exact maximum per head.
vec4 score(uint table, uint kv_head, uint query_base, uint begin, uint keys, uint split_start) {
  vec4 top = vec4(uintBitsToFloat(0xFF800000u));
  uint page_texels = 8u * kv_heads * kDims;  // 32 keys * 2 * kv_heads * dims f16, 8 a texel
  uint pass_keys = WIDTH * kKeys;
  for (uint pass = begin / pass_keys * pass_keys; pass < keys; pass += pass_keys) {
    uint at[kKeys];
    float s[kHeadsMax * kKeys];
    [[unroll]] for (uint i = 0u; i < kKeys; ++i) {
      uint key = split_start + clamp(pass + i * WIDTH + gl_LocalInvocationID.x, begin, keys - 1u);
      at[i] = page_of(table, key) * page_texels + kv_head * (kDims / 8u) * 32u + (key & 31u);
      [[unroll]] for (uint h = 0u; h < kHeads; ++h) s[h * kKeys + i] = 0.0;
    }
    for (uint d8 = 0u; d8 < kDims / 8u; ++d8) {
      vec4 low[kKeys];
      vec4 high[kKeys];
      [[unroll]] for (uint i = 0u; i < kKeys; ++i) {
        uvec4 k = texelFetch(pages, int(at[i] + d8 * 32u));
        low[i] = vec4(unpackHalf2x16(k.x), unpackHalf2x16(k.y));
        high[i] = vec4(unpackHalf2x16(k.z), unpackHalf2x16(k.w));
      }
      [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
        uint q_at = query_base + h * (kDims / 4u) + d8 * 2u;
        vec4 q_low = uintBitsToFloat(texelFetch(activations, int(q_at)));
        vec4 q_high = uintBitsToFloat(texelFetch(activations, int(q_at + 1u)));
        [[unroll]] for (uint i = 0u; i < kKeys; ++i) {
          s[h * kKeys + i] = dot_step(dot_step(s[h * kKeys + i], q_low, low[i]), q_high, high[i]);
        }
      }
    }
    [[unroll]] for (uint i = 0u; i < kKeys; ++i) {
      uint j = pass + i * WIDTH + gl_LocalInvocationID.x;
      if (j < begin || j >= keys) continue;
      [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
        float scaled = times(s[h * kKeys + i], scale);
        weights[h * kSplit + j] = scaled;
        top[h] = scaled > top[h] ? scaled : top[h];
      }
    }
  }
  return top;
}

float maximum_of_lanes(uint h) {
  float m = lane_maxima[h * kWidthMax];
  for (uint i = 1u; i < WIDTH; ++i) {
    float other = lane_maxima[h * kWidthMax + i];
    m = other > m ? other : m;
  }
  return m;
}

// exp(score - m) of key j, kept for the sum over values; masked keys are +0.
float take(uint h, uint j, uvec2 seen, float m) {
  float p = j >= seen.x && j < seen.y ? nx_exp(plus(weights[h * kSplit + j], -m)) : 0.0;
  weights[h * kSplit + j] = p;
  return p;
}

float fold(uint h, uint j, uvec2 seen, float m) { return plus(take(h, j, seen, m), take(h, j + 16u, seen, m)); }

// One leaf of 32 keys from `first`: the stride-halving tree. Columns i, i + 4, i + 8, ... of it for i = 0, 2, 1, 3,
// so that few values wait.
float leaf_sum(uint h, uint first, uvec2 seen, float m) {
  float pair[2];
  float waiting = 0.0;
  for (uint c = 0u; c < 4u; ++c) {
    uint j = first + ((c & 1u) << 1) + (c >> 1);
    float column = plus(plus(fold(h, j, seen, m), fold(h, j + 8u, seen, m)),
                        plus(fold(h, j + 4u, seen, m), fold(h, j + 12u, seen, m)));
    if ((c & 1u) == 0u) {
      waiting = column;
    } else {
      float sum = plus(waiting, column);
      if (c == 1u) pair[0] = sum;
      else pair[1] = sum;
    }
  }
  return plus(pair[0], pair[1]);
}

void main() {
  uint row = gl_WorkGroupID.y;
  uint split = gl_WorkGroupID.z;
  uint position = step_word(kRowsWord + 4u * row + 1u);
  uint table = step_word(kRowsWord + 4u * row + 2u);
  uint first_key = window != 0u && position + 1u > window ? position + 1u - window : 0u;
  if (split * kSplit > position || (split + 1u) * kSplit <= first_key) return;
  uint kv_head = gl_WorkGroupID.x / chunks;
  uint first_in_group = gl_WorkGroupID.x % chunks * kHeads;
  uint first_head = kv_head * heads_per_kv + first_in_group;
  uint heads_here = min(kHeads, heads_per_kv - first_in_group);
  uint split_start = split * kSplit;
  uint begin = max(first_key, split_start) - split_start;
  uint keys = min(position + 1u - split_start, kSplit);
  uint lane = gl_LocalInvocationID.x;

  vec4 top = score(table, kv_head, row * stride + query + first_head * (kDims / 4u), begin, keys, split_start);
  [[unroll]] for (uint h = 0u; h < kHeads; ++h) lane_maxima[h * kWidthMax + lane] = top[h];
  barrier();
  for (uint unit = lane; unit < kHeads * kLeaves; unit += WIDTH) {
    uint h = unit / kLeaves;
    leaf_sums[unit] = leaf_sum(h, unit % kLeaves * 32u, uvec2(begin, keys), maximum_of_lanes(h));
  }
  barrier();

  uint v_base = 4u * kv_heads * kDims + kv_head * 32u * (kDims / 8u);  // texels into the page
  uint page_texels = 8u * kv_heads * kDims;
  // Every lane stays in the loops, because a lane may hold the weight that others ask for.
  for (uint d8_first = 0u; d8_first < kDims / 8u; d8_first += WIDTH) {
    uint d8 = min(d8_first + lane, kDims / 8u - 1u);
    vec4 low[kHeadsMax];
    vec4 high[kHeadsMax];
    [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
      low[h] = vec4(0.0);
      high[h] = vec4(0.0);
    }
    const uint block = min(WIDTH, 32u);  // keys of one page
    for (uint first = begin / block * block; first < keys; first += block) {
      uint v_at = page_of(table, split_start + first) * page_texels + v_base + (first & 31u) * (kDims / 8u) + d8;
      uint own[kHeadsMax];
      [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
        own[h] = kShuffle != 0 ? floatBitsToUint(weights[h * kSplit + min(first + lane, kSplit - 1u)]) : 0u;
      }
      uint here = min(block, keys - first);
      for (uint j = max(begin, first) - first; j < here; ++j) {
        uvec4 v = texelFetch(pages, int(v_at + j * (kDims / 8u)));
        vec4 v_low = vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y));
        vec4 v_high = vec4(unpackHalf2x16(v.z), unpackHalf2x16(v.w));
        [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
          float p = kShuffle != 0 ? uintBitsToFloat(subgroupShuffle(own[h], j)) : weights[h * kSplit + first + j];
          low[h] = add_scaled(low[h], p, v_low);
          high[h] = add_scaled(high[h], p, v_high);
        }
      }
    }
    if (d8_first + lane >= kDims / 8u) continue;
    [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
      if (h >= heads_here) continue;
      uint at = ((row * heads + first_head + h) * splits_max + split) * (kDims + 4u) + 4u + d8 * 8u;
      [[unroll]] for (uint i = 0u; i < 4u; ++i) {
        partials[at + i] = low[h][i];
        partials[at + 4u + i] = high[h][i];
      }
    }
  }
  if (lane != 0u) return;
  [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
    if (h >= heads_here) continue;
    uint b = h * kLeaves;
    float l = plus(plus(plus(leaf_sums[b], leaf_sums[b + 1u]), plus(leaf_sums[b + 2u], leaf_sums[b + 3u])),
                   plus(plus(leaf_sums[b + 4u], leaf_sums[b + 5u]), plus(leaf_sums[b + 6u], leaf_sums[b + 7u])));
    uint at = ((row * heads + first_head + h) * splits_max + split) * (kDims + 4u);
    partials[at] = maximum_of_lanes(h);
    partials[at + 1u] = l;
  }
}
