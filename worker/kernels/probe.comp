// One function of numerics.glsl on many values, for the start-up self-test and the unit tests: out[i] = f(in[i],
// in[count + i]).
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(set = 0, binding = 1) uniform usamplerBuffer inputs;  // 1 word a texel
layout(set = 0, binding = 6) writeonly buffer Out { uint results[]; };

layout(push_constant) uniform Push {
  uint count;
  uint function;  // worker/vulkan/self_test.cc, enum class Probe
};

uint word(uint i) { return texelFetch(inputs, int(i)).x; }

float added(float a, float b) {
  precise float y = a + b;
  return y;
}

float multiplied(float a, float b) {
  precise float y = a * b;
  return y;
}

// Two roundings: a device that fuses them answers otherwise.
float product_plus(float a, float b) {
  precise float y = a * b - 1.0;
  return y;
}

uint four_products(uint a, uint b) {
  int sum = 0;
  for (int i = 0; i < 32; i += 8) sum += bitfieldExtract(int(a), i, 8) * bitfieldExtract(int(b), i, 8);
  return uint(sum);
}

uint answer(uint a_bits, uint b_bits) {
  float a = uintBitsToFloat(a_bits);
  float b = uintBitsToFloat(b_bits);
  switch (function) {
    case 0u: return floatBitsToUint(added(a, b));
    case 1u: return floatBitsToUint(multiplied(a, b));
    case 2u: return floatBitsToUint(product_plus(a, b));
    case 3u: return floatBitsToUint(nx_rcp(a));
    case 4u: return floatBitsToUint(nx_rsqrt(a));
    case 5u: return floatBitsToUint(nx_exp(a));
    case 6u: return floatBitsToUint(nx_silu_mul(a, b));
    case 7u: return nx_f32_to_f16(a);
    case 8u: return floatBitsToUint(unpackHalf2x16(a_bits).x);
    case 9u: return uint(nx_quantise_one(a, b));
    case 10u: return floatBitsToUint(float(int(a_bits)));
    case 11u: return four_products(a_bits, b_bits);
    case 12u: return floatBitsToUint(nx_store(a));
    case 13u: return a_bits * b_bits;
    case 14u: return floatBitsToUint(nx_gelu_mul(a, b));
    default: return 0u;
  }
}

void main() {
  uint lanes = gl_NumWorkGroups.x * WIDTH;
  for (uint i = gl_GlobalInvocationID.x; i < count; i += lanes) results[i] = answer(word(i), word(count + i));
}
