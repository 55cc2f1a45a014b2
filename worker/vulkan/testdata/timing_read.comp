// Adds up a buffer, so that all of it is read: what reading costs (vulkan_facts). As a storage buffer or, like the
// kernels of the engine, through a texel buffer.
#version 460
layout(local_size_x_id = 0) in;

#ifdef STORAGE
layout(set = 0, binding = 7) readonly buffer In { uvec4 source[]; };
uvec4 piece(uint i) { return source[i]; }
#else
layout(set = 0, binding = 1) uniform usamplerBuffer source;
uvec4 piece(uint i) { return texelFetch(source, int(i)); }
#endif
layout(set = 0, binding = 6) writeonly buffer Out { uint sums[]; };

layout(push_constant) uniform Push {
  uint pieces;     // of 16 bytes
  uint first_sum;  // where this dispatch's sums begin, one a lane
};

void main() {
  uint lanes = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
  uvec4 sum = uvec4(0u);
  for (uint i = gl_GlobalInvocationID.x; i < pieces; i += lanes) sum += piece(i);
  sums[first_sum + gl_GlobalInvocationID.x] = sum.x + sum.y + sum.z + sum.w;
}
