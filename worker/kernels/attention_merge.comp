// Joins the splits of a row in position order: M = maximum of m; w = exp(m - M), L = L + l * w, O[d] = O[d] + o[d] *
// w; result store(O[d] * rcp(L)). One lane makes 4 d. Grid: x covers heads * dims / 4, y = rows. Partials:
// attention.comp.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(set = 0, binding = 1) uniform usamplerBuffer partials;  // 4 words a texel
layout(set = 0, binding = 6) writeonly buffer Out { vec4 results[]; };

layout(push_constant) uniform Push {
  uint heads;
  uint dims;
  uint splits_max;
  uint stride;    // of an activation row, in texels
  uint attended;  // offset in it, in texels
  uint window;    // attention.comp
};

float add_product(float acc, float a, float b) {
  precise float sum = acc + a * b;
  return sum;
}

float minus(float a, float b) {
  precise float difference = a - b;
  return difference;
}

float normalised(float o, float inverse) {
  precise float y = o * inverse;
  return nx_store(y);
}

void main() {
  uint quarter = dims / 4u;
  uint item = gl_GlobalInvocationID.x;
  uint row = gl_WorkGroupID.y;
  if (item >= heads * quarter) return;
  uint head = item / quarter;
  uint d4 = item % quarter;
  uint position = step_word(kRowsWord + 4u * row + 1u);
  uint splits = position / 256u + 1u;
  uint first_split = window != 0u && position + 1u > window ? (position + 1u - window) / 256u : 0u;
  uint texels = quarter + 1u;  // of one partial
  uint base = (row * heads + head) * splits_max * texels;
  float top = uintBitsToFloat(texelFetch(partials, int(base + first_split * texels)).x);
  for (uint s = first_split + 1u; s < splits; ++s) {
    float m = uintBitsToFloat(texelFetch(partials, int(base + s * texels)).x);
    top = m > top ? m : top;
  }
  float l = 0.0;
  vec4 o = vec4(0.0);
  for (uint s = first_split; s < splits; ++s) {
    uint at = base + s * texels;
    vec2 ml = uintBitsToFloat(texelFetch(partials, int(at)).xy);
    vec4 part = uintBitsToFloat(texelFetch(partials, int(at + 1u + d4)));
    float w = nx_exp(minus(ml.x, top));
    l = add_product(l, ml.y, w);
    o = vec4(add_product(o.x, part.x, w), add_product(o.y, part.y, w), add_product(o.z, part.z, w),
             add_product(o.w, part.w, w));
  }
  float inverse = nx_rcp(l);
  results[row * stride + attended + item] =
      vec4(normalised(o.x, inverse), normalised(o.y, inverse), normalised(o.z, inverse), normalised(o.w, inverse));
}
