// What every kernel shares: extensions, the step's header and rows, and the way memory is reached.
//
// Reads go through uniform texel buffers (u32 or 4 x u32, floats by bit cast): llvmpipe gathers those with vector
// instructions, while a storage-buffer load costs it a loop over the lanes (measured 7 to 30 times slower). Writes go
// through storage buffers. Bindings: 0 is the step, 1 to 5 are read, 6 and 7 are written. Specialisation constant 0
// is the workgroup width, which is also the subgroup width; results do not depend on it.
#ifndef STEP_GLSL
#define STEP_GLSL

#extension GL_EXT_spirv_intrinsics : require
#extension GL_EXT_control_flow_attributes : require

layout(local_size_x_id = 0) in;
#define WIDTH gl_WorkGroupSize.x

// Words: [0] rows, [1] wanted rows; from 4: rows of 4 {token, position, start of the page table in words, 0}; from
// kWantedWord: indices of the wanted rows. worker/vulkan/step_layout.h is the other side.
const uint kRowsWord = 4u;
const uint kWantedWord = 4u + 4u * 256u;

layout(set = 0, binding = 0) uniform usamplerBuffer step_words;

uint step_word(uint i) { return texelFetch(step_words, int(i)).x; }

#endif
