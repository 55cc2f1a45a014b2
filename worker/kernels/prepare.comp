// Makes the input of a matmul from activation rows: RMSNorm, silu(gate) * up, gelu(gate) * up or nothing; then int8
// groups of 32 or 256 elements, one lane per group. Records (in 4-word texels), for the weight types that will read
// them; x[k] are the int8 values:
//   nibble record, 20 words: 16 words (x[k] << 16) + x[k + 2] for k = 4j + {0, 16, 1, 17}, word
//                            4j + {0, 1, 2, 3}, j = 0..3, then dx, s, sum, 0. One 32-bit multiplication with two
//                            nibbles 16 bits apart then makes two products.
//   byte record, 12 words:   8 words of four int8, then dx, s, sum, 0.
//   wide record, 140 words (a group of 256): words (x[k] << 16) + x[k + 2] for k = 4j + {0, 1}, word 2j + {0, 1},
//                            j = 0..63; then dx, 0, 0, 0; then 8 words of two sums of 16 elements, the first low.
// Grid: x covers the groups of 32 of a row (1 for the norm, whose workgroup needs the whole row), y = rows.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kSource = 0;   // 0 plain, 1 silu(source) * second, 2 RMSNorm, 3 gelu
layout(constant_id = 2) const uint kOutputs = 1;  // bits: 1 nibble record, 2 byte record, 4 floats, 8 wide record

layout(set = 0, binding = 1) uniform usamplerBuffer activations;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer norm;         // 4 words a texel
layout(set = 0, binding = 6) writeonly buffer Records { uvec4 records[]; };
layout(set = 0, binding = 7) writeonly buffer Floats { vec4 floats[]; };

layout(push_constant) uniform Push {
  uint groups;         // of 32 elements
  uint stride;         // of an activation row, in texels
  uint source;         // offset in the row, in texels
  uint second;         // kSource 1 and 3: the other factor
  uint nibble_base;    // texels
  uint byte_base;      // texels
  uint wide_base;      // texels
  uint wanted;         // 1: row y is the y-th wanted row
  float inverse;       // float(1 / n)
  float eps;
};

#define NORM_LEAVES (kSource == 2 ? kLeavesMax : 1)
#include "row_norm.glsl"

const uint kWideTexels = 35;

// Elements 4i .. 4i + 3 of the row.
vec4 value4(uint base, uint i, float r) {
  vec4 x = fetch4(base + i);
  if (kSource == 1 || kSource == 3) {
    vec4 y = fetch4(base + (second - source) + i);
    if (kSource == 1) {
      return vec4(nx_silu_mul(x.x, y.x), nx_silu_mul(x.y, y.y), nx_silu_mul(x.z, y.z), nx_silu_mul(x.w, y.w));
    }
    return vec4(nx_gelu_mul(x.x, y.x), nx_gelu_mul(x.y, y.y), nx_gelu_mul(x.z, y.z), nx_gelu_mul(x.w, y.w));
  }
  if (kSource == 2) return normed4(x, r, uintBitsToFloat(texelFetch(norm, int(i))));
  return x;
}

uint magnitude4(vec4 x) {
  uvec4 a = floatBitsToUint(x) & kAbsMask;
  return max(max(a.x, a.y), max(a.z, a.w));
}

// How a group is scaled: dx, and id = rcp(dx). An empty group is all zero: too small, or not finite.
struct Scale {
  float dx;
  float id;
  bool empty;
};

Scale scale_of(uint amax_bits) {
  bool small = amax_bits < kTinyBits;
  Scale scale;
  scale.empty = small || amax_bits >= kInfBits;
  precise float scaled = uintBitsToFloat(amax_bits) * uintBitsToFloat(0x3C010204u);  // float(1 / 127)
  scale.dx = scale.empty ? (small ? 0.0 : uintBitsToFloat(kInfBits)) : scaled;
  scale.id = nx_rcp(scale.empty ? 1.0 : scale.dx);
  return scale;
}

ivec4 quantise4(vec4 x, Scale scale) {
  ivec4 q = ivec4(nx_quantise_one(x.x, scale.id), nx_quantise_one(x.y, scale.id), nx_quantise_one(x.z, scale.id),
                  nx_quantise_one(x.w, scale.id));
  return scale.empty ? ivec4(0) : q;
}

int sum4(ivec4 q) { return (q.x + q.y) + (q.z + q.w); }

uint packed_bytes(ivec4 q) {
  uvec4 u = uvec4(q) & 0xFFu;
  return u.x | (u.y << 8) | (u.z << 16) | (u.w << 24);
}

uint pair(int high, int low) { return uint(high) * 65536u + uint(low); }

void quantise_group(uint base, uint row, uint g, float r) {
  uint amax_bits = 0u;
  for (uint i = 0u; i < 8u; ++i) {
    vec4 x = value4(base, g * 8u + i, r);
    amax_bits = max(amax_bits, magnitude4(x));
    if ((kOutputs & 4u) != 0u) floats[(row * groups + g) * 8u + i] = x;
  }
  if ((kOutputs & 3u) == 0u) return;
  Scale scale = scale_of(amax_bits);
  int sum = 0;
  uint nibble_at = nibble_base + (row * groups + g) * 5u;
  uint byte_at = byte_base + (row * groups + g) * 3u;
  uvec4 bytes_low = uvec4(0u);
  uvec4 bytes_high = uvec4(0u);
  for (uint j = 0u; j < 4u; ++j) {
    ivec4 low = quantise4(value4(base, g * 8u + j, r), scale);
    ivec4 high = quantise4(value4(base, g * 8u + j + 4u, r), scale);
    sum += sum4(low) + sum4(high);
    if ((kOutputs & 1u) != 0u) {
      records[nibble_at + j] = uvec4(pair(low.x, low.z), pair(high.x, high.z), pair(low.y, low.w),
                                     pair(high.y, high.w));
    }
    if ((kOutputs & 2u) != 0u) {
      bytes_low = uvec4(bytes_low.yzw, packed_bytes(low));
      bytes_high = uvec4(bytes_high.yzw, packed_bytes(high));
    }
  }
  precise float product = scale.dx * float(sum);
  float s = scale.empty ? scale.dx : product;
  uvec4 tail = uvec4(floatBitsToUint(scale.dx), floatBitsToUint(s), uint(sum), 0u);
  if ((kOutputs & 1u) != 0u) records[nibble_at + 4u] = tail;
  if ((kOutputs & 2u) != 0u) {
    records[byte_at] = bytes_low;
    records[byte_at + 1u] = bytes_high;
    records[byte_at + 2u] = tail;
  }
}

void quantise_wide_group(uint base, uint row, uint g, float r) {
  uint amax_bits = 0u;
  for (uint i = 0u; i < 64u; ++i) amax_bits = max(amax_bits, magnitude4(value4(base, g * 64u + i, r)));
  Scale scale = scale_of(amax_bits);
  uint at = wide_base + (row * (groups / 8u) + g) * kWideTexels;
  uvec4 sums = uvec4(0u);
  for (uint leaf = 0u; leaf < 8u; ++leaf) {  // of 32 elements: one word of two sums
    uint word = 0u;
    for (uint i = 0u; i < 4u; ++i) {
      uint quad = g * 64u + leaf * 8u + i * 2u;
      ivec4 a = quantise4(value4(base, quad, r), scale);
      ivec4 b = quantise4(value4(base, quad + 1u, r), scale);
      records[at + leaf * 4u + i] = uvec4(pair(a.x, a.z), pair(a.y, a.w), pair(b.x, b.z), pair(b.y, b.w));
      int sum = sum4(a) + sum4(b);
      // Quads 0 to 3 make the first sum of 16, quads 4 to 7 the second. Each half is kept modulo 2^16.
      word = i < 2u ? (word + uint(sum)) & 0xFFFFu : word + (uint(sum) << 16);
    }
    sums = uvec4(sums.yzw, word);
    if ((leaf & 3u) == 3u) records[at + 33u + (leaf >> 2)] = sums;
  }
  records[at + 32u] = uvec4(floatBitsToUint(scale.dx), 0u, 0u, 0u);
}

void quantise_lane(uint base, uint row, uint g, float r) {
  if ((kOutputs & 7u) != 0u) quantise_group(base, row, g, r);
  if ((kOutputs & 8u) != 0u && g < groups / 8u) quantise_wide_group(base, row, g, r);
}

void main() {
  uint row = gl_WorkGroupID.y;
  uint source_row = wanted != 0u ? step_word(kWantedWord + row) : row;
  uint base = source_row * stride + source;
  if (kSource == 2) {
    float r = norm_factor(base, groups * 8u, inverse, eps);
    for (uint g = gl_LocalInvocationID.x; g < groups; g += WIDTH) quantise_lane(base, row, g, r);
  } else {
    uint g = gl_GlobalInvocationID.x;
    if (g < groups) quantise_lane(base, row, g, 0.0);
  }
}
