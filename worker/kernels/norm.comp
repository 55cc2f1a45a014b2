// RMSNorm of spans of activation rows. Each head of q or k in place before RoPE, or what a half of a layer adds, joined
// to the residual stream: out = normed, or store(normed + residual). A workgroup norms one span. Grid: x = spans of a
// row, y = rows.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(set = 0, binding = 1) uniform usamplerBuffer activations;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer norm;         // 4 words a texel
layout(set = 0, binding = 6) writeonly buffer Out { vec4 results[]; };  // the activation rows again

layout(push_constant) uniform Push {
  uint texels;    // of a span
  uint stride;    // of an activation row, in texels; offsets in it follow
  uint source;    // of the first span
  uint target;    // of the first result; may be `source`
  uint residual;  // with kAdds
  float inverse;  // float(1 / n)
  float eps;
};

layout(constant_id = 1) const uint kAdds = 0;  // 1: adds the residual

#define NORM_LEAVES 1024
#include "row_norm.glsl"

void main() {
  uint row = gl_WorkGroupID.y * stride;
  uint span = gl_WorkGroupID.x * texels;
  uint base = row + source + span;
  float r = norm_factor(base, texels, inverse, eps);
  for (uint i = gl_LocalInvocationID.x; i < texels; i += WIDTH) {
    vec4 y = normed4(fetch4(base + i), r, uintBitsToFloat(texelFetch(norm, int(i))));
    if (kAdds != 0) {
      y = plus4(y, fetch4(row + residual + span + i));
      y = vec4(nx_store(y.x), nx_store(y.y), nx_store(y.z), nx_store(y.w));
    }
    results[row + target + span + i] = y;
  }
}
