// One split of 256 keys of one row for kHeads query heads that share a kv head: m = maximum score, l = R(exp(s - m)), o[d] = sum in
// key order of p * v[d]. Partials go to out as {m, l, 0, 0, o[0..dims)} per (row, head, split). Grid: x = kv head * chunks +
// chunk of kHeads heads, y = rows, z = splits; a workgroup beyond a row's splits ends at once.
// Pages: rope_store_kv.comp. Fully masked splits do not exist here; masked keys are +0 in R and left out elsewhere.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kHeads = 3;  // at most 4
layout(constant_id = 2) const uint kKeys = 4;   // keys per lane and pass
layout(constant_id = 3) const uint kDims = 64;  // of a head, a multiple of 8

const uint kSplit = 256u;
const uint kHeadsMax = 4u;
const uint kWidthMax = 64u;

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
  float scale;
};

shared float weights[kHeads * kSplit];  // scores, then exp(score - maximum)
shared float lane_values[kHeads * kWidthMax];

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

uint page_of(uint table, uint key) { return step_word(table + key / 32u); }

// Scores of this lane's keys; returns nothing, fills weights[].
void score(uint table, uint kv_head, uint query_base, uint keys, uint split_start) {
  uint page_texels = 8u * kv_heads * kDims;  // 32 keys * 2 * kv_heads * dims f16, 8 a texel
  for (uint pass = 0u; pass < keys; pass += WIDTH * kKeys) {
    uint at[kKeys];
    float s[kHeadsMax * kKeys];
    [[unroll]] for (uint i = 0u; i < kKeys; ++i) {
      uint key = split_start + min(pass + i * WIDTH + gl_LocalInvocationID.x, keys - 1u);
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
      if (j >= kSplit) continue;
      [[unroll]] for (uint h = 0u; h < kHeads; ++h) weights[h * kSplit + j] = times(s[h * kKeys + i], scale);
    }
  }
}

// The exact maximum of this lane's own keys, then of all lanes.
float maximum(uint h, uint keys) {
  float m = uintBitsToFloat(0xFF800000u);
  for (uint j = gl_LocalInvocationID.x; j < keys; j += WIDTH) {
    float s = weights[h * kSplit + j];
    m = s > m ? s : m;
  }
  return m;
}

float maximum_of_lanes(uint h) {
  float m = lane_values[h * kWidthMax];
  for (uint i = 1u; i < WIDTH; ++i) {
    float other = lane_values[h * kWidthMax + i];
    m = other > m ? other : m;
  }
  return m;
}

// x[i] + x[i + 16] for i = first and first + 8, added.
float fold(uint base, uint i) { return plus(weights[base + i], weights[base + i + 16u]); }

// One leaf of 32: the stride-halving tree, in the order that needs few registers.
float leaf_sum(uint base) {
  float t[4];
  [[unroll]] for (uint i = 0u; i < 4u; ++i) {
    t[i] = plus(plus(fold(base, i), fold(base, i + 8u)), plus(fold(base, i + 4u), fold(base, i + 12u)));
  }
  return plus(plus(t[0], t[2]), plus(t[1], t[3]));
}

void main() {
  uint row = gl_WorkGroupID.y;
  uint split = gl_WorkGroupID.z;
  uint position = step_word(kRowsWord + 4u * row + 1u);
  uint table = step_word(kRowsWord + 4u * row + 2u);
  if (split * kSplit > position) return;
  uint kv_head = gl_WorkGroupID.x / chunks;
  uint first_in_group = gl_WorkGroupID.x % chunks * kHeads;
  uint first_head = kv_head * heads_per_kv + first_in_group;
  uint heads_here = min(kHeads, heads_per_kv - first_in_group);
  uint split_start = split * kSplit;
  uint keys = min(position + 1u - split_start, kSplit);
  uint lane = gl_LocalInvocationID.x;

  score(table, kv_head, row * stride + query + first_head * (kDims / 4u), keys, split_start);
  [[unroll]] for (uint h = 0u; h < kHeads; ++h) lane_values[h * kWidthMax + lane] = maximum(h, keys);
  barrier();
  float m[kHeadsMax];
  [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
    m[h] = maximum_of_lanes(h);
    for (uint j = lane; j < kSplit; j += WIDTH) {
      float s = weights[h * kSplit + j];
      weights[h * kSplit + j] = j < keys ? nx_exp(plus(s, -m[h])) : 0.0;
    }
  }
  barrier();
  for (uint leaf = lane; leaf < 8u; leaf += WIDTH) {
    [[unroll]] for (uint h = 0u; h < kHeads; ++h) lane_values[h * kWidthMax + leaf] = leaf_sum(h * kSplit + leaf * 32u);
  }
  barrier();

  uint v_base = 4u * kv_heads * kDims + kv_head * 32u * (kDims / 8u);  // texels into the page
  uint page_texels = 8u * kv_heads * kDims;
  for (uint d8 = lane; d8 < kDims / 8u; d8 += WIDTH) {
    vec4 low[kHeadsMax];
    vec4 high[kHeadsMax];
    [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
      low[h] = vec4(0.0);
      high[h] = vec4(0.0);
    }
    for (uint j = 0u; j < keys; ++j) {
      uint key = split_start + j;
      uvec4 v = texelFetch(pages, int(page_of(table, key) * page_texels + v_base + (key & 31u) * (kDims / 8u) + d8));
      vec4 v_low = vec4(unpackHalf2x16(v.x), unpackHalf2x16(v.y));
      vec4 v_high = vec4(unpackHalf2x16(v.z), unpackHalf2x16(v.w));
      [[unroll]] for (uint h = 0u; h < kHeads; ++h) {
        float p = weights[h * kSplit + j];
        low[h] = vec4(add_product(low[h].x, p, v_low.x), add_product(low[h].y, p, v_low.y), add_product(low[h].z, p, v_low.z),
                      add_product(low[h].w, p, v_low.w));
        high[h] = vec4(add_product(high[h].x, p, v_high.x), add_product(high[h].y, p, v_high.y),
                       add_product(high[h].z, p, v_high.z), add_product(high[h].w, p, v_high.w));
      }
    }
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
    uint b = h * kWidthMax;
    float l = plus(plus(plus(lane_values[b], lane_values[b + 1u]), plus(lane_values[b + 2u], lane_values[b + 3u])),
                   plus(plus(lane_values[b + 4u], lane_values[b + 5u]), plus(lane_values[b + 6u], lane_values[b + 7u])));
    uint at = ((row * heads + first_head + h) * splits_max + split) * (kDims + 4u);
    partials[at] = m[h];
    partials[at + 1u] = l;
  }
}
