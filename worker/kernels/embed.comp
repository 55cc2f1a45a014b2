// out = store(dequantised embedding row of each token). A lane makes 32 columns. Grid: x covers the blocks, y = rows.
// Weight and scale layouts: matmul_quant.comp, matmul_float.comp.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kType = 2;  // 0 q4_0, 1 q4_1, 2 q8_0, 3 f16, 4 f32

layout(set = 0, binding = 1) uniform usamplerBuffer weights;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer scales;   // 1 word a texel
layout(set = 0, binding = 6) writeonly buffer Out { vec4 results[]; };

layout(push_constant) uniform Push {
  uint blocks;
  uint columns;
  uint out_stride;  // texels of 4
  uint out_offset;
};

float scaled(float d, float m, int q) {
  precise float product = d * float(q);
  if (kType == 1) {
    precise float shifted = product + m;
    return nx_store(shifted);
  }
  return nx_store(product);
}

vec4 scaled4(vec2 dm, ivec4 q) {
  return vec4(scaled(dm.x, dm.y, q.x), scaled(dm.x, dm.y, q.y), scaled(dm.x, dm.y, q.z), scaled(dm.x, dm.y, q.w));
}

ivec4 nibbles(uint word, uint shift) {
  ivec4 q = ivec4((uvec4(word) >> (uvec4(0u, 8u, 16u, 24u) + shift)) & 15u);
  return kType == 0 ? q - 8 : q;
}

ivec4 bytes(uint word) {
  int w = int(word);
  return ivec4(bitfieldExtract(w, 0, 8), bitfieldExtract(w, 8, 8), bitfieldExtract(w, 16, 8),
               bitfieldExtract(w, 24, 8));
}

vec4 stored(vec4 x) { return vec4(nx_store(x.x), nx_store(x.y), nx_store(x.z), nx_store(x.w)); }

// Columns 4i .. 4i + 3 of the block.
vec4 columns4(uint tile, uint row, uint i, vec2 dm) {
  if (kType == 4) return stored(uintBitsToFloat(texelFetch(weights, int(((tile * 8u + i) << 4) + row))));
  if (kType == 3) {
    uvec4 texel = texelFetch(weights, int(((tile * 4u + (i >> 1)) << 4) + row));
    uvec2 words = (i & 1u) == 0u ? texel.xy : texel.zw;
    return stored(vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y)));
  }
  if (kType == 2) return scaled4(dm, bytes(texelFetch(weights, int(((tile * 2u + (i >> 2)) << 4) + row))[i & 3u]));
  return scaled4(dm, nibbles(texelFetch(weights, int((tile << 4) + row))[i & 3u], i < 4u ? 0u : 4u));
}

void main() {
  uint block = gl_GlobalInvocationID.x;
  uint index = gl_WorkGroupID.y;
  if (block >= blocks) return;
  uint token = step_word(kRowsWord + 4u * index);
  uint tile = (token >> 4) * blocks + block;
  vec2 dm = kType <= 2 ? unpackHalf2x16(texelFetch(scales, int((tile << 4) + (token & 15u))).x) : vec2(0.0);
  for (uint i = 0u; i < 8u; ++i) {
    uint at = block * 8u + i;
    if (at * 4u < columns) results[index * out_stride + out_offset + at] = columns4(tile, token & 15u, i, dm);
  }
}
