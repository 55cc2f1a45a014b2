// What no kernel may contain, for the test of the reader.
#version 460
#extension GL_KHR_shader_subgroup_arithmetic : require
layout(local_size_x = 1) in;
layout(set = 0, binding = 6) buffer Out { vec4 results[]; };
void main() {
  vec4 x = results[0];
  results[1].x = x.x / x.y;
  results[1].y = dot(x, x);
  results[1].z = fma(x.x, x.y, x.z);
  results[1].w = exp(x.x) + inversesqrt(x.y);
  results[2].x = subgroupAdd(x.z);
}
