// out = store(dequantised embedding row of each token), times `scale`. A lane makes 32 columns. Grid: x covers the
// blocks of 32, y = rows. Weight and scale layouts: matmul_quant.comp, matmul_wide.comp, matmul_float.comp.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

// 0 q4_0, 1 q4_1, 2 q8_0, 3 f16, 4 f32, 5 bf16, 6 q5_0, 7 q5_1, 8 q4_k, 9 q5_k, 10 q6_k
layout(constant_id = 1) const uint kType = 2;

layout(set = 0, binding = 1) uniform usamplerBuffer weights;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer scales;   // 1 word a texel
layout(set = 0, binding = 6) writeonly buffer Out { vec4 results[]; };

layout(push_constant) uniform Push {
  uint blocks;  // of 32 columns
  uint columns;
  uint out_stride;  // texels of 4
  uint out_offset;
  float scale;
};

const bool kWide = kType >= 8;
const bool kFiveBits = kType == 6 || kType == 7;
const bool kFloats = kType >= 3 && kType <= 5;
const bool kHasMinimum = kType == 1 || kType == 7;
const uint kWideTexels = kType == 8 ? 9 : (kType == 9 ? 11 : 13);

float times(float a, float b) {
  precise float product = a * b;
  return product;
}

float plus(float a, float b) {
  precise float sum = a + b;
  return sum;
}

float minus(float a, float b) {
  precise float difference = a - b;
  return difference;
}

vec4 products4(float d, ivec4 q) {
  return vec4(times(d, float(q.x)), times(d, float(q.y)), times(d, float(q.z)), times(d, float(q.w)));
}

ivec4 bytes(uint word) {
  int w = int(word);
  return ivec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8),
               bitfieldExtract(w, 24, 8));
}

// Bits shift .. of each byte.
uvec4 bits_of_bytes(uint word, uint shift, uint mask) {
  return (uvec4(word) >> (uvec4(0u, 8u, 16u, 24u) + shift)) & mask;
}

// Columns 4i .. 4i + 3 of block `block` of 32, unscaled.
vec4 float_columns(uint tile, uint row, uint i) {
  if (kType == 4) return uintBitsToFloat(texelFetch(weights, int(((tile * 8u + i) << 4) + row)));
  uvec4 texel = texelFetch(weights, int(((tile * 4u + (i >> 1)) << 4) + row));
  uvec2 words = (i & 1u) == 0u ? texel.xy : texel.zw;
  if (kType == 3) return vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
  return uintBitsToFloat(uvec4(words.x << 16, words.x & 0xFFFF0000u, words.y << 16, words.y & 0xFFFF0000u));
}

vec4 narrow_columns(uint tile, uint row, uint i) {
  uint at = (tile << 4) + row;
  vec2 dm = unpackHalf2x16(texelFetch(scales, int(kFiveBits ? 2u * at : at)).x);
  if (kType == 2) return products4(dm.x, bytes(texelFetch(weights, int(((tile * 2u + (i >> 2)) << 4) + row))[i & 3u]));
  ivec4 q = ivec4(bits_of_bytes(texelFetch(weights, int(at))[i & 3u], i < 4u ? 0u : 4u, 15u));
  if (kFiveBits) q |= ivec4(bits_of_bytes(texelFetch(scales, int(2u * at + 1u)).x, i, 1u) << 4);
  if (kType == 0) q -= 8;
  if (kType == 6) q -= 16;
  vec4 value = products4(dm.x, q);
  if (!kHasMinimum) return value;
  return vec4(plus(value.x, dm.y), plus(value.y, dm.y), plus(value.z, dm.y), plus(value.w, dm.y));
}

uvec4 wide_texel(uint tile, uint row, uint t) {
  return texelFetch(weights, int(((tile * kWideTexels + t) << 4) + row));
}

// Sub-block `leaf` of 32 of the 256.
vec4 wide_columns(uint tile, uint row, uint leaf, uint i) {
  vec2 dm = unpackHalf2x16(texelFetch(scales, int((tile << 4) + row)).x);
  uvec4 sub = wide_texel(tile, row, kWideTexels - 1u);
  if (kType == 10) {
    uint side = leaf >> 2;
    uint part = leaf & 3u;
    uint word = wide_texel(tile, row, (2u * side + (part & 1u)) * 2u + (i >> 2))[i & 3u];
    uint upper = wide_texel(tile, row, 8u + 2u * side + (i >> 2))[i & 3u];
    uvec4 q = bits_of_bytes(word, part < 2u ? 0u : 4u, 15u) | (bits_of_bytes(upper, 2u * part, 3u) << 4);
    int sub_scale = bytes(sub[leaf >> 1])[2u * (leaf & 1u) + (i >> 2)];
    return products4(dm.x, sub_scale * (ivec4(q) - 32));
  }
  uint word = wide_texel(tile, row, (leaf >> 1) * 2u + (i >> 2))[i & 3u];
  uvec4 q = bits_of_bytes(word, 4u * (leaf & 1u), 15u);
  if (kType == 9) q |= bits_of_bytes(wide_texel(tile, row, 8u + (i >> 2))[i & 3u], leaf, 1u) << 4;
  int sub_scale = int(bits_of_bytes(sub[leaf >> 2], 0u, 255u)[leaf & 3u]);
  int sub_minimum = int(bits_of_bytes(sub[2u + (leaf >> 2)], 0u, 255u)[leaf & 3u]);
  vec4 value = products4(dm.x, sub_scale * ivec4(q));
  float minimum = times(dm.y, float(sub_minimum));
  return vec4(minus(value.x, minimum), minus(value.y, minimum), minus(value.z, minimum), minus(value.w, minimum));
}

float stored(float x) { return nx_store(times(nx_store(x), scale)); }

void main() {
  uint block = gl_GlobalInvocationID.x;
  uint index = gl_WorkGroupID.y;
  if (block >= blocks) return;
  uint token = step_word(kRowsWord + 4u * index);
  uint row = token & 15u;
  uint tile = (token >> 4) * (kWide ? blocks / 8u : blocks) + (kWide ? block / 8u : block);
  for (uint i = 0u; i < 8u; ++i) {
    uint at = block * 8u + i;
    if (at * 4u >= columns) break;
    vec4 x = kWide ? wide_columns(tile, row, block & 7u, i)
                   : (kFloats ? float_columns(tile, row, i) : narrow_columns(tile, row, i));
    results[index * out_stride + out_offset + at] = vec4(stored(x.x), stored(x.y), stored(x.z), stored(x.w));
  }
}
