// out[row][n] = store((W x + bias) + residual) for f16, bf16 and f32 weights: one product and one addition per element
// in order, the splits of plan.h. A lane computes one weight row for one activation row. Grid: x covers the weight
// rows, y = activation rows. Device layout in texels of 4 words (weight_store.h): f32 (tile * 8 + k / 4) * 16 + row;
// f16 and bf16 (tile * 4 + k / 8) * 16 + row.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kType = 4;  // 3 f16, 4 f32, 5 bf16

layout(set = 0, binding = 1) uniform usamplerBuffer weights;    // 4 words a texel
layout(set = 0, binding = 3) uniform usamplerBuffer inputs;     // 4 words a texel: f32 rows of blocks * 32
layout(set = 0, binding = 4) uniform usamplerBuffer residuals;  // 1 word a texel: the activation rows
layout(set = 0, binding = 5) uniform usamplerBuffer biases;     // 1 word a texel
layout(set = 0, binding = 6) writeonly buffer Out { float results[]; };

layout(push_constant) uniform Push {
  uint blocks;
  uint rows;
  uint out_stride;
  uint out_offset;
  uint residual_stride;
  uint residual_offset;
  uint record_base;  // texels
  uint count_word;
  uint flags;
};

float plus(float a, float b) {
  precise float sum = a + b;
  return sum;
}

float add_product(float acc, float w, uint x) {
  precise float sum = acc + w * uintBitsToFloat(x);
  return sum;
}

float add_four(float acc, vec4 w, uvec4 x) {
  return add_product(add_product(add_product(add_product(acc, w.x, x.x), w.y, x.y), w.z, x.z), w.w, x.w);
}

void main() {
  uint row = gl_GlobalInvocationID.x;
  uint token = gl_WorkGroupID.y;
  if (row >= rows || token >= step_word(count_word)) return;
  uint tile_row = (row >> 4) * blocks;
  float tot = 0.0;
  float acc = 0.0;
  for (uint b = 0u; b < blocks; ++b) {
    uint x_at = record_base + (token * blocks + b) * 8u;
    for (uint i = 0u; i < 8u; ++i) {
      vec4 w;
      if (kType != 4) {
        uvec4 texel = texelFetch(weights, int((((tile_row + b) * 4u + (i >> 1)) << 4) + (row & 15u)));
        uvec2 words = (i & 1u) == 0u ? texel.xy : texel.zw;
        if (kType == 3) {
          w = vec4(unpackHalf2x16(words.x), unpackHalf2x16(words.y));
        } else {
          w = uintBitsToFloat(uvec4(words.x << 16, words.x & 0xFFFF0000u, words.y << 16, words.y & 0xFFFF0000u));
        }
      } else {
        w = uintBitsToFloat(texelFetch(weights, int((((tile_row + b) * 8u + i) << 4) + (row & 15u))));
      }
      acc = add_four(acc, w, texelFetch(inputs, int(x_at + i)));
    }
    if ((b & 7u) == 7u || b + 1u == blocks) {
      tot = plus(tot, acc);
      acc = 0.0;
    }
  }
  float y = tot;
  if ((flags & 1u) != 0u) y = plus(y, uintBitsToFloat(texelFetch(biases, int(row)).x));
  if ((flags & 2u) != 0u) {
    y = plus(y, uintBitsToFloat(texelFetch(residuals, int(token * residual_stride + residual_offset + row)).x));
  }
  results[token * out_stride + out_offset + row] = nx_store(y);
}
