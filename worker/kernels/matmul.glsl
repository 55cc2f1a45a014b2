// What matmul_quant.comp and matmul_wide.comp share: bindings, arguments, and the int8 records of the activation rows
// that a workgroup takes. They stand in memory (prepare.comp), or the workgroup makes them in shared memory before it
// begins: one dispatch less, and the same work once per workgroup.
//
// The includer declares kType, kRecordTexels (of a record), kBlockGroups (groups of 32 in a record) and kOutputs (the
// record's form, matmul_input.glsl) before it includes this.
#ifndef MATMUL_GLSL
#define MATMUL_GLSL

layout(constant_id = 1) const uint kTokens = 1;
layout(constant_id = 2) const uint kRows = 2;
layout(constant_id = 4) const uint kShuffle = 0;  // 1: lanes fetch different texels and exchange words
layout(constant_id = 5) const uint kSource = 0;   // 0: records stand in memory; else what they are made of
layout(constant_id = 6) const uint kGroups = 1;   // kMakes: groups of 32 in a row

const uint kTokensMax = 8;
const uint kRowsMax = 4;
const uint kCells = kTokensMax * kRowsMax;

layout(set = 0, binding = 1) uniform usamplerBuffer weights;      // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer scales;       // 1 word a texel
layout(set = 0, binding = 3) uniform usamplerBuffer records;      // 4 words a texel
layout(set = 0, binding = 3) uniform usamplerBuffer activations;  // kMakes: what they are made of
layout(set = 0, binding = 4) uniform usamplerBuffer residuals;    // 1 word a texel: the activation rows
layout(set = 0, binding = 4) uniform usamplerBuffer norm;         // kMakes, by a norm: nothing is added then
layout(set = 0, binding = 5) uniform usamplerBuffer biases;       // 1 word a texel
layout(set = 0, binding = 6) writeonly buffer Out { float results[]; };
layout(set = 0, binding = 6) writeonly buffer Joined { vec4 joined[]; };  // the same buffer

layout(push_constant) uniform Push {
  uint blocks;           // a row's records
  uint rows;             // of the weight
  uint out_stride;       // floats
  uint out_offset;
  uint residual_stride;  // floats
  uint residual_offset;
  uint record_base;      // texels
  uint count_word;       // word of the step that holds the number of activation rows
  uint flags;            // 1 bias, 2 residual, 4 what joined is written to `target`
  uint stride;           // from here on for kMakes
  uint source;
  uint second;
  float inverse;
  float eps;
  uint head_texels;
  uint splits_max;
  uint window;
  uint target;           // offset in the activation row, in texels; another place than `second`
};

const bool kMakes = kSource != 0;
const uint kRowRecords = kGroups / kBlockGroups;
shared uvec4 made[kMakes ? kTokens * kRowRecords * kRecordTexels : 1u];

const uint groups = kGroups;
const uint nibble_base = 0;
const uint byte_base = 0;
const uint wide_base = 0;
#define PUT_RECORD(at, texel) made[at] = texel
#define PUT_FLOATS(at, four)
#define NORM_LEAVES (kNorms ? kGroups : 1u)
#include "matmul_input.glsl"

// Makes the records of the workgroup's rows. Of the workgroups that make a row's input, the first writes what joined
// the residual stream, to where none of the others reads.
void make_input(uint first_token, uint count) {
  for (uint t = 0u; t < kTokens && first_token + t < count; ++t) {
    uint row = first_token + t;
    row_base = row * stride + source;
    float r = 0.0;
    if (kNorms) r = row_factor();
    uint base = row_base;
    if (kMerges) base = find_splits(row);
    for (uint g = gl_LocalInvocationID.x; g < kGroups; g += WIDTH) quantise_lane(base, t, g, r);
    if (kJoins && (flags & 4u) != 0u && gl_WorkGroupID.x == 0u) {
      for (uint i = gl_LocalInvocationID.x; i < kGroups * 8u; i += WIDTH) {
        joined[row * stride + target + i] = joined4(i);
      }
    }
    barrier();  // the records are there; all have read the sum that the next row replaces
  }
}

uvec4 record_texel(uint t, uint block, uint i) {
  if (kMakes) return made[(t * kRowRecords + block) * kRecordTexels + i];
  uint token = gl_WorkGroupID.y * kTokens + t;
  return texelFetch(records, int(record_base + (token * blocks + block) * kRecordTexels + i));
}

#endif
