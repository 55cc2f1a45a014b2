// Makes the input of the matmuls behind it: records in memory, and floats for the weight types that read those. With
// kSource 5 the residual stream with what joined it is written back to where `second` was.
// Grid: x covers the groups of 32 of a row (1 for the norms, whose workgroup needs the whole row), y = rows.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kSource = 0;   // matmul_input.glsl
layout(constant_id = 2) const uint kOutputs = 1;

layout(set = 0, binding = 1) uniform usamplerBuffer activations;
layout(set = 0, binding = 2) uniform usamplerBuffer norm;
layout(set = 0, binding = 6) writeonly buffer Records { uvec4 records[]; };
layout(set = 0, binding = 7) writeonly buffer Floats { vec4 floats[]; };
layout(set = 0, binding = 8) writeonly buffer Joined { vec4 joined[]; };  // kSource 5: the activation rows again

layout(push_constant) uniform Push {
  uint groups;
  uint nibble_base;
  uint byte_base;
  uint wide_base;
  uint wanted;  // 1: row y is the y-th wanted row
  uint stride;
  uint source;
  uint second;
  float inverse;
  float eps;
  uint head_texels;
  uint splits_max;
  uint window;
};

#define PUT_RECORD(at, texel) records[at] = texel
#define PUT_FLOATS(at, four) floats[at] = four
#define NORM_LEAVES (kNorms ? kLeavesMax : 1)
#include "matmul_input.glsl"

void main() {
  uint row = gl_WorkGroupID.y;
  uint source_row = wanted != 0u ? step_word(kWantedWord + row) : row;
  row_base = source_row * stride + source;
  if (kNorms) {
    float r = row_factor();
    for (uint g = gl_LocalInvocationID.x; g < groups; g += WIDTH) quantise_lane(row_base, row, g, r);
    if (!kJoins) return;
    barrier();  // all have read the residual stream as it was
    for (uint i = gl_LocalInvocationID.x; i < groups * 8u; i += WIDTH) {
      joined[row_base + (second - source) + i] = joined4(i);
    }
  } else {
    uint g = gl_GlobalInvocationID.x;
    if (g < groups) quantise_lane(kMerges ? find_splits(row) : row_base, row, g, 0.0);
  }
}
