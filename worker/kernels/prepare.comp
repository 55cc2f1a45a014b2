// Makes the input of a matmul from activation rows: RMSNorm, silu(gate) * up or nothing, then one int8 group per 32
// elements.
// One lane per group. Records (in 4-word texels), for the weight types that will read them:
//   nibble record, 20 words: 16 words (x[k] << 16) + x[k + 2] for k = 4j + {0, 16, 1, 17}, word
//                            4j + {0, 1, 2, 3}, j = 0..3, then dx, s, sum, 0. One 32-bit multiplication with two
//                            nibbles 16 bits apart then makes two products.
//   byte record, 12 words:   8 words of four int8, then dx, s, sum, 0.
// Grid: x covers the groups of a row (1 for the norm, whose workgroup needs the whole row), y = rows.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kSource = 0;   // 0 plain, 1 silu(source) * second, 2 RMSNorm
layout(constant_id = 2) const uint kOutputs = 1;  // bits: 1 nibble record, 2 byte record, 4 floats

layout(set = 0, binding = 1) uniform usamplerBuffer activations;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer norm;         // 4 words a texel
layout(set = 0, binding = 6) writeonly buffer Records { uvec4 records[]; };
layout(set = 0, binding = 7) writeonly buffer Floats { vec4 floats[]; };

layout(push_constant) uniform Push {
  uint groups;         // of 32 elements
  uint stride;         // of an activation row, in texels
  uint source;         // offset in the row, in texels
  uint second;         // kSource 1: the other factor
  uint nibble_base;    // texels
  uint byte_base;      // texels
  uint wanted;         // 1: row y is the y-th wanted row
  float inverse;       // float(1 / n)
  float eps;
};

const uint kLeavesMax = 1024;
shared float leaves[kSource == 2 ? kLeavesMax : 1];

vec4 fetch4(uint texel) { return uintBitsToFloat(texelFetch(activations, int(texel))); }

float square(float x) {
  precise float s = x * x;
  return s;
}

float plus(float a, float b) {
  precise float s = a + b;
  return s;
}

// Texel i of the leaf plus texel i + 4 (elements 16 apart), squared: the first level of leaf_sum.
vec4 folded(uint base, uint i) {
  vec4 a = fetch4(base + i);
  vec4 b = fetch4(base + i + 4u);
  return vec4(plus(square(a.x), square(b.x)), plus(square(a.y), square(b.y)), plus(square(a.z), square(b.z)),
              plus(square(a.w), square(b.w)));
}

vec4 plus4(vec4 a, vec4 b) { return vec4(plus(a.x, b.x), plus(a.y, b.y), plus(a.z, b.z), plus(a.w, b.w)); }

float leaf_sum(uint base) {
  vec4 v = plus4(plus4(folded(base, 0u), folded(base, 2u)), plus4(folded(base, 1u), folded(base, 3u)));
  return plus(plus(v.x, v.z), plus(v.y, v.w));
}

// R(x * x): leaf sums meet in shared memory, one lane adds them in the balanced adjacent tree.
float sum_of_squares(uint base) {
  for (uint g = gl_LocalInvocationID.x; g < groups; g += WIDTH) leaves[g] = leaf_sum(base + g * 8u);
  barrier();
  if (gl_LocalInvocationID.x == 0u) {
    for (uint stride_leaves = 1u; stride_leaves < groups; stride_leaves *= 2u) {
      for (uint i = 0u; i + stride_leaves < groups; i += 2u * stride_leaves) {
        leaves[i] = plus(leaves[i], leaves[i + stride_leaves]);
      }
    }
  }
  barrier();
  return leaves[0];
}

float normed(float x, float r, float w) {
  precise float y = (x * r) * w;
  return nx_store(y);
}

// Elements 4i .. 4i + 3 of the group.
vec4 value4(uint base, uint g, uint i, float r) {
  vec4 x = fetch4(base + g * 8u + i);
  if (kSource == 1) {
    vec4 y = fetch4(base + (second - source) + g * 8u + i);
    return vec4(nx_silu_mul(x.x, y.x), nx_silu_mul(x.y, y.y), nx_silu_mul(x.z, y.z), nx_silu_mul(x.w, y.w));
  }
  if (kSource == 2) {
    vec4 w = uintBitsToFloat(texelFetch(norm, int(g * 8u + i)));
    return vec4(normed(x.x, r, w.x), normed(x.y, r, w.y), normed(x.z, r, w.z), normed(x.w, r, w.w));
  }
  return x;
}

uint magnitude4(vec4 x) {
  uvec4 a = floatBitsToUint(x) & kAbsMask;
  return max(max(a.x, a.y), max(a.z, a.w));
}

ivec4 quantise4(vec4 x, float id, bool empty) {
  ivec4 q = ivec4(nx_quantise_one(x.x, id), nx_quantise_one(x.y, id), nx_quantise_one(x.z, id),
                  nx_quantise_one(x.w, id));
  return empty ? ivec4(0) : q;
}

uint packed_bytes(ivec4 q) {
  uvec4 u = uvec4(q) & 0xFFu;
  return u.x | (u.y << 8) | (u.z << 16) | (u.w << 24);
}

uint pair(int high, int low) { return uint(high) * 65536u + uint(low); }

void quantise_group(uint base, uint row, uint g, float r) {
  uint amax_bits = 0u;
  for (uint i = 0u; i < 8u; ++i) {
    vec4 x = value4(base, g, i, r);
    amax_bits = max(amax_bits, magnitude4(x));
    if ((kOutputs & 4u) != 0u) floats[(row * groups + g) * 8u + i] = x;
  }
  if ((kOutputs & 3u) == 0u) return;
  bool small = amax_bits < kTinyBits;
  bool empty = small || amax_bits >= kInfBits;
  precise float scaled = uintBitsToFloat(amax_bits) * uintBitsToFloat(0x3C010204u);  // float(1 / 127)
  float dx = empty ? (small ? 0.0 : uintBitsToFloat(kInfBits)) : scaled;
  float id = nx_rcp(empty ? 1.0 : dx);
  int sum = 0;
  uint nibble_at = nibble_base + (row * groups + g) * 5u;
  uint byte_at = byte_base + (row * groups + g) * 3u;
  uvec4 bytes_low = uvec4(0u);
  uvec4 bytes_high = uvec4(0u);
  for (uint j = 0u; j < 4u; ++j) {
    ivec4 low = quantise4(value4(base, g, j, r), id, empty);
    ivec4 high = quantise4(value4(base, g, j + 4u, r), id, empty);
    sum += ((low.x + low.y) + (low.z + low.w)) + ((high.x + high.y) + (high.z + high.w));
    if ((kOutputs & 1u) != 0u) {
      records[nibble_at + j] = uvec4(pair(low.x, low.z), pair(high.x, high.z), pair(low.y, low.w),
                                     pair(high.y, high.w));
    }
    if ((kOutputs & 2u) != 0u) {
      bytes_low = uvec4(bytes_low.yzw, packed_bytes(low));
      bytes_high = uvec4(bytes_high.yzw, packed_bytes(high));
    }
  }
  precise float product = dx * float(sum);
  float s = empty ? dx : product;
  uvec4 tail = uvec4(floatBitsToUint(dx), floatBitsToUint(s), uint(sum), 0u);
  if ((kOutputs & 1u) != 0u) records[nibble_at + 4u] = tail;
  if ((kOutputs & 2u) != 0u) {
    records[byte_at] = bytes_low;
    records[byte_at + 1u] = bytes_high;
    records[byte_at + 2u] = tail;
  }
}

void main() {
  uint row = gl_WorkGroupID.y;
  uint source_row = wanted != 0u ? step_word(kWantedWord + row) : row;
  uint base = source_row * stride + source;
  if (kSource == 2) {
    precise float mean = sum_of_squares(base) * inverse;
    precise float shifted = mean + eps;
    float r = nx_rsqrt(shifted);
    for (uint g = gl_LocalInvocationID.x; g < groups; g += WIDTH) quantise_group(base, row, g, r);
  } else {
    uint g = gl_GlobalInvocationID.x;
    if (g < groups) quantise_group(base, row, g, 0.0);
  }
}
