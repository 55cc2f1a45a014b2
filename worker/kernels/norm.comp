// RMSNorm of what a half of a layer adds, joined to the residual stream: out = store(normed + residual). A workgroup
// takes a row. Where a matmul reads the stream next, prepare.comp does this. Grid: x = 1, y = rows.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(set = 0, binding = 1) uniform usamplerBuffer activations;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer norm;         // 4 words a texel
layout(set = 0, binding = 6) writeonly buffer Out { vec4 results[]; };  // the activation rows again

layout(push_constant) uniform Push {
  uint texels;    // of the span
  uint stride;    // of an activation row, in texels; offsets in it follow
  uint source;
  uint target;
  uint residual;  // may be `target`
  float inverse;  // float(1 / n)
  float eps;
};

#define NORM_LEAVES 1024
#include "row_norm.glsl"

void main() {
  uint row = gl_WorkGroupID.y * stride;
  float r = norm_factor(row + source, texels, inverse, eps);
  for (uint i = gl_LocalInvocationID.x; i < texels; i += WIDTH) {
    vec4 y = normed4(fetch4(row + source + i), r, uintBitsToFloat(texelFetch(norm, int(i))));
    y = plus4(y, fetch4(row + residual + i));
    results[row + target + i] = vec4(nx_store(y.x), nx_store(y.y), nx_store(y.z), nx_store(y.w));
  }
}
