// The shader's mirror of worker/core/numerics.h, function by function and operation by operation (class X). Every
// float result passes through a `precise` variable, so that glslang marks each + - * NoContraction; a test reads the
// SPIR-V and checks it. Not allowed here: division, fma, built-in exp, inversesqrt, min and max of floats, subgroup
// operations on floats.
#ifndef NUMERICS_GLSL
#define NUMERICS_GLSL

// Round to nearest even for f32 (SPV_KHR_float_controls: capability 4467, execution mode 4462). Vulkan leaves the
// direction open otherwise. The loader strips these words on a device that does not offer the mode; the self-test
// then decides.
spirv_execution_mode(extensions = ["SPV_KHR_float_controls"], capabilities = [4467], 4462, 32);

const uint kSignBit = 0x80000000u;
const uint kAbsMask = 0x7FFFFFFFu;
const uint kInfBits = 0x7F800000u;
const uint kTinyBits = 0x21800000u;  // 2^-60

float nx_store(float x) { return (floatBitsToUint(x) & kAbsMask) < kTinyBits ? 0.0 : x; }

float nx_rcp(float x) {
  uint bits = floatBitsToUint(x);
  precise float y = uintBitsToFloat((0x7EF311C7u - (bits & kAbsMask)) | (bits & kSignBit));
  for (int i = 0; i < 4; ++i) {
    precise float e = 1.0 - x * y;
    y = y + y * e;
  }
  return y;
}

float nx_rsqrt(float x) {
  precise float h = 0.5 * x;
  precise float y = uintBitsToFloat(0x5F3759DFu - (floatBitsToUint(x) >> 1));
  for (int i = 0; i < 4; ++i) {
    precise float e = 1.5 - (h * y) * y;
    y = y * e;
  }
  return y;
}

// One multiplication and one addition, each rounded: p * r + c.
float nx_horner(float p, float r, uint c) {
  precise float s = p * r + uintBitsToFloat(c);
  return s;
}

float nx_exp(float x_in) {
  bool nan = (floatBitsToUint(x_in) & kAbsMask) > kInfBits;
  bool zero = x_in < -30.0;
  precise float x = nan || zero ? 0.0 : (x_in > 88.0 ? 88.0 : x_in);
  precise float scaled = x * uintBitsToFloat(0x3FB8AA3Bu);  // float(1 / ln 2)
  precise float rounded = scaled + uintBitsToFloat((floatBitsToUint(scaled) & kSignBit) | 0x3F000000u);
  int n = int(rounded);
  precise float nf = float(n);
  precise float r = (x - nf * 0.693359375) - nf * uintBitsToFloat(0xB95E8083u);  // float(ln 2 - 0.693359375)
  precise float p = uintBitsToFloat(0x39500D01u);  // 1/7!, then 1/6! ... 1/3!: floats nearest
  p = nx_horner(p, r, 0x3AB60B61u);
  p = nx_horner(p, r, 0x3C088889u);
  p = nx_horner(p, r, 0x3D2AAAABu);
  p = nx_horner(p, r, 0x3E2AAAABu);
  p = nx_horner(p, r, 0x3F000000u);
  precise float e = ((p * r) * r + r) + 1.0;
  precise float y = e * uintBitsToFloat(uint(n + 127) << 23);
  return nan ? x_in : (zero ? 0.0 : y);
}

float nx_sigmoid(float x) {
  precise float e = nx_exp(uintBitsToFloat(floatBitsToUint(x) | kSignBit));
  precise float s = nx_rcp(1.0 + e);
  precise float es = e * s;
  return (floatBitsToUint(x) & kSignBit) != 0u ? es : s;
}

float nx_silu_mul(float gate, float up) {
  precise float silu = gate * nx_sigmoid(gate);
  precise float y = silu * up;
  return nx_store(y);
}

float nx_gelu_mul(float gate, float up) {
  precise float x = gate > 16.0 ? 16.0 : (gate < -16.0 ? -16.0 : gate);
  precise float cube = (x * x) * x;
  precise float sum = x + cube * uintBitsToFloat(0x3D372713u);  // 0.044715
  precise float u2 = sum * uintBitsToFloat(0x3FCC422Au);          // 2 sqrt(2 / pi)
  precise float gelu = gate * nx_sigmoid(u2);
  precise float y = gelu * up;
  return nx_store(y);
}

uint nx_f32_to_f16(float x) {
  uint bits = floatBitsToUint(x);
  uint sign = (bits >> 16) & 0x8000u;
  uint a = bits & kAbsMask;
  uint h = 0u;
  if (a > kInfBits) {
    h = 0x7E00u;
  } else if (a >= 0x477FF000u) {
    h = 0x7BFFu;
  } else if (a >= 0x38800000u) {
    uint rebased = a - 0x38000000u;
    h = (rebased + 0xFFFu + ((rebased >> 13) & 1u)) >> 13;
  } else if (a > 0x33000000u) {
    uint mantissa = (a & 0x007FFFFFu) | 0x00800000u;
    uint shift = 126u - (a >> 23);
    uint rest = mantissa & ((1u << shift) - 1u);
    uint tie = 1u << (shift - 1u);
    h = mantissa >> shift;
    if (rest > tie || (rest == tie && (h & 1u) != 0u)) h += 1u;
  }
  return sign | h;
}

int nx_quantise_one(float x, float id) {
  precise float scaled = x * id;
  precise float rounded = scaled + uintBitsToFloat((floatBitsToUint(scaled) & kSignBit) | 0x3F000000u);
  return clamp(int(rounded), -127, 127);
}

#endif
