// The scalar definition of every class-X function (.specs/engine-numerics.md; ENGINE-RULES "Arithmetic"). Every kernel
// of every backend computes exactly these bytes; shaders mirror this file line by line.
//
// Allowed in f32: + - * in round to nearest even, comparisons, exact int <-> float conversions, bit operations. Not
// allowed: fma, division, library functions. f64 is used only for tables made on the host (RoPE), where IEEE division
// is also exact by definition. The build compiles the tree with -ffp-contract=off.
//
// Pure; no allocation; constexpr.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

// Always inlined: files compiled for a wider instruction set must not leave a copy that the linker could pick for all.
#define ORCH_NUMERIC [[gnu::always_inline]] inline constexpr

namespace orch::worker::numerics {

inline constexpr std::uint32_t kContractVersion = 1;  // part of page keys and of the replay identity

inline constexpr std::uint32_t kQuantBlock = 32;       // elements per activation group of the 32-element weight types
inline constexpr std::uint32_t kWideGroup = 256;       // elements per activation group of the K-quants
inline constexpr std::uint32_t kSplitElements = 256;   // matmul: K is summed in splits of this many elements
inline constexpr std::uint32_t kAttentionSplit = 256;  // keys per attention split, counted from position 0
inline constexpr std::uint32_t kLeaf = 32;             // elements per leaf of R(x)

inline constexpr std::uint32_t kSignBit = 0x8000'0000U;
inline constexpr std::uint32_t kAbsMask = 0x7FFF'FFFFU;
inline constexpr std::uint32_t kInfBits = 0x7F80'0000U;
inline constexpr std::uint32_t kTinyBits = 0x2180'0000U;  // 2^-60: below it a stored value is +0

ORCH_NUMERIC std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
ORCH_NUMERIC float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// Applied to every f32 a kernel writes for another kernel to read: embedding rows, norms, matmul results after bias and
// residual, rotated q and k, attention results, activations. Keeps every later product a normal number, so that devices
// with and without denormals agree. NaN and infinity pass.
ORCH_NUMERIC float store(float x) { return (bits_of(x) & kAbsMask) < kTinyBits ? 0.0F : x; }

// ---- reciprocal, reciprocal square root
// -------------------------------------------------------------------------------

// 1/x for normal x in [2^-125, 2^125], either sign. Seed: linear approximation by exponent negation; 0x7EF311C7 is the
// constant whose relative error (at most 12.5 %) is smallest over one octave. Each Newton step squares the error: 0.125
// -> 1.6e-2 -> 2.4e-4 -> 6e-8 -> rounding.
ORCH_NUMERIC float rcp(float x) {
  const std::uint32_t sign = bits_of(x) & kSignBit;
  const std::uint32_t seed = (0x7EF3'11C7U - (bits_of(x) & kAbsMask)) | sign;
  float y = float_of(seed);
  for (int i = 0; i < 4; ++i) {
    const float e = 1.0F - x * y;
    y = y + y * e;
  }
  return y;
}

// 1/sqrt(x) for normal x > 0. Seed: halved and negated exponent with the well-known offset 0x5F3759DF (error at
// most 3.5 %); four Newton steps y * (1.5 - x/2 * y * y), the last one at rounding level.
ORCH_NUMERIC float rsqrt(float x) {
  const float h = 0.5F * x;
  float y = float_of(0x5F37'59DFU - (bits_of(x) >> 1));
  for (int i = 0; i < 4; ++i) {
    const float e = 1.5F - (h * y) * y;
    y = y * e;
  }
  return y;
}

// ---- exponential, logarithm
// -------------------------------------------------------------------------------------------

// e^x. Exactly +0 below -30 (the contract's cut, which keeps every softmax weight normal), x above 88 counts as 88, NaN
// passes, exp(0) is exactly 1. Cody-Waite: n = round(x / ln 2), r = x - n ln 2 in two pieces (0.693359375 has 9
// significant bits, so n * hi is exact; lo = float(ln 2 - hi)); Taylor coefficients 1/k! to degree 7 (|r| <= 0.3467,
// truncation 5e-9).
ORCH_NUMERIC float exp(float x) {
  const std::uint32_t magnitude = bits_of(x) & kAbsMask;
  if (magnitude > kInfBits) return x;
  if (x < -30.0F) return 0.0F;
  if (x > 88.0F) x = 88.0F;
  const float scaled = x * 0x1.715476p+0F;  // float(1 / ln 2)
  const float half = float_of((bits_of(scaled) & kSignBit) | 0x3F00'0000U);
  const std::int32_t n = static_cast<std::int32_t>(scaled + half);
  const float nf = static_cast<float>(n);
  const float r = (x - nf * 0.693359375F) - nf * -0x1.bd0106p-13F;
  float p = 1.0F / 5040.0F;  // compile-time constants, each the float nearest 1/k!
  p = p * r + 1.0F / 720.0F;
  p = p * r + 1.0F / 120.0F;
  p = p * r + 1.0F / 24.0F;
  p = p * r + 1.0F / 6.0F;
  p = p * r + 0.5F;
  const float e = ((p * r) * r + r) + 1.0F;
  return e * float_of(static_cast<std::uint32_t>(n + 127) << 23);
}

// ln x for normal x > 0. x = m 2^e with m in [sqrt(1/2), sqrt 2); ln m = 2 atanh(s), s = (m - 1) / (m + 1), series to
// s^11
// (|s| <= 0.1716, truncation 5e-11). Used for log-probabilities only.
ORCH_NUMERIC float log(float x) {
  std::int32_t e = static_cast<std::int32_t>(bits_of(x) >> 23) - 127;
  float m = float_of((bits_of(x) & 0x007F'FFFFU) | 0x3F80'0000U);
  if (bits_of(m) >= 0x3FB5'04F3U) {  // float(sqrt 2)
    m = m * 0.5F;
    e = e + 1;
  }
  const float s = (m - 1.0F) * rcp(m + 1.0F);
  const float z = s * s;
  float p = 1.0F / 11.0F;
  p = p * z + 1.0F / 9.0F;
  p = p * z + 1.0F / 7.0F;
  p = p * z + 1.0F / 5.0F;
  p = p * z + 1.0F / 3.0F;
  const float series = (s + s) + ((s + s) * z) * p;
  const float ef = static_cast<float>(e);
  return ef * 0.693359375F + (series + ef * -0x1.bd0106p-13F);
}

// ---- activations
// ------------------------------------------------------------------------------------------------------

// 1 / (1 + e^-x), from e^-|x| so that nothing overflows.
ORCH_NUMERIC float sigmoid(float x) {
  const float e = exp(float_of(bits_of(x) | kSignBit));
  const float s = rcp(1.0F + e);
  return (bits_of(x) & kSignBit) != 0 ? e * s : s;
}

ORCH_NUMERIC float silu(float x) { return x * sigmoid(x); }

// The fused gate of a Llama feed-forward: store(silu(gate) * up).
ORCH_NUMERIC float silu_mul(float gate, float up) { return store(silu(gate) * up); }

// Gelu in its tanh form: x / 2 * (1 + tanh(u)) = x * sigmoid(2u), u = sqrt(2 / pi) * (x + 0.044715 x^3). |x| is cut at
// 16, where 2u is far beyond exp's own cut, so that x^3 stays finite; NaN passes.
ORCH_NUMERIC float gelu(float x) {
  const float clamped = x > 16.0F ? 16.0F : (x < -16.0F ? -16.0F : x);
  const float cube = (clamped * clamped) * clamped;
  const float u2 = (clamped + cube * 0.044715F) * 1.5957691216F;  // 2 sqrt(2 / pi)
  return x * sigmoid(u2);
}

// The fused gate of a Gemma feed-forward: store(gelu(gate) * up).
ORCH_NUMERIC float gelu_mul(float gate, float up) { return store(gelu(gate) * up); }

// ---- f16
// --------------------------------------------------------------------------------------------------------------

// Exact for all 65,536 patterns; denormals become normal floats whatever the device does with float denormals.
ORCH_NUMERIC float f16_to_f32(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16;
  const std::uint32_t exponent = (h >> 10) & 0x1FU;
  const std::uint32_t mantissa = h & 0x3FFU;
  if (exponent == 0x1FU) return float_of(sign | kInfBits | (mantissa << 13));
  if (exponent != 0) return float_of(sign | ((exponent + 112U) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  return float_of(sign | bits_of(magnitude));
}

// Round to nearest even; magnitudes that would become infinite, infinity included, saturate at 65504; NaN becomes
// 0x7E00 with its sign.
ORCH_NUMERIC std::uint16_t f32_to_f16(float x) {
  const std::uint32_t sign = (bits_of(x) >> 16) & 0x8000U;
  const std::uint32_t a = bits_of(x) & kAbsMask;
  std::uint32_t h = 0;
  if (a > kInfBits) {
    h = 0x7E00U;
  } else if (a >= 0x477F'F000U) {  // 65520, the first value that rounds to 65536
    h = 0x7BFFU;
  } else if (a >= 0x3880'0000U) {  // 2^-14, smallest normal f16
    const std::uint32_t rebased = a - 0x3800'0000U;
    h = (rebased + 0xFFFU + ((rebased >> 13) & 1U)) >> 13;
  } else if (a > 0x3300'0000U) {  // above 2^-25, which is a tie and rounds to 0
    const std::uint32_t mantissa = (a & 0x007F'FFFFU) | 0x0080'0000U;
    const std::uint32_t shift = 126U - (a >> 23);
    const std::uint32_t rest = mantissa & ((1U << shift) - 1U);
    const std::uint32_t tie = 1U << (shift - 1U);
    h = mantissa >> shift;
    h += (rest > tie || (rest == tie && (h & 1U) != 0)) ? 1U : 0U;
  }
  return static_cast<std::uint16_t>(sign | h);
}

// True when f32_to_f16 saturated; counted by the KV writer.
ORCH_NUMERIC bool f16_saturates(float x) {
  const std::uint32_t a = bits_of(x) & kAbsMask;
  return a >= 0x477F'F000U && a <= kInfBits;
}

// F32 and BF16 weights are loaded through this (denormal rule).
ORCH_NUMERIC float load_weight(float x) { return store(x); }

// ---- activation quantiser
// ---------------------------------------------------------------------------------------------

// One group of 32: xq[i] = clamp(trunc(x[i] * id + sign * 0.5), -127, 127), id = rcp(dx), dx = amax * float(1/127).
// amax is the integer maximum of the magnitude bits (exact, order-free, NaN above infinity). amax < 2^-60: all zero.
// Non-finite input: dx = +infinity and xq = 0, so that every product with the group is NaN and the job ends in
// NUMERIC_FAULT.
struct QuantGroup {
  float dx = 0;
  float s = 0;           // dx * float(sum): the Q4_1 / Q5_1 minimum term's factor, made once
  std::int32_t sum = 0;  // of xq
};

ORCH_NUMERIC std::int32_t quantise_one(float x, float id) {
  const float scaled = x * id;
  const float half = float_of((bits_of(scaled) & kSignBit) | 0x3F00'0000U);
  const std::int32_t q = static_cast<std::int32_t>(scaled + half);
  return q > 127 ? 127 : (q < -127 ? -127 : q);
}

ORCH_NUMERIC QuantGroup quantise_group(const float* x, std::int8_t* xq) {
  std::uint32_t amax_bits = 0;
  for (std::uint32_t i = 0; i < kQuantBlock; ++i) {
    const std::uint32_t a = bits_of(x[i]) & kAbsMask;
    amax_bits = a > amax_bits ? a : amax_bits;
  }
  if (amax_bits < kTinyBits || amax_bits >= kInfBits) {
    for (std::uint32_t i = 0; i < kQuantBlock; ++i) xq[i] = 0;
    QuantGroup empty;
    empty.dx = amax_bits < kTinyBits ? 0.0F : float_of(kInfBits);
    empty.s = empty.dx;
    return empty;
  }
  QuantGroup group;
  group.dx = float_of(amax_bits) * (1.0F / 127.0F);
  const float id = rcp(group.dx);
  for (std::uint32_t i = 0; i < kQuantBlock; ++i) {
    const std::int32_t q = quantise_one(x[i], id);
    xq[i] = static_cast<std::int8_t>(q);
    group.sum += q;
  }
  group.s = group.dx * static_cast<float>(group.sum);
  return group;
}

// One group of 256, for the K-quants: as above with one dx; sum16 and sum32 are the exact sums of xq over 16 and 32
// elements (at most 32 * 127). Returns dx.
ORCH_NUMERIC float quantise_wide_group(const float* x, std::int8_t* xq, std::int16_t* sum16, std::int16_t* sum32) {
  std::uint32_t amax_bits = 0;
  for (std::uint32_t i = 0; i < kWideGroup; ++i) {
    const std::uint32_t a = bits_of(x[i]) & kAbsMask;
    amax_bits = a > amax_bits ? a : amax_bits;
  }
  const bool empty = amax_bits < kTinyBits || amax_bits >= kInfBits;
  const float dx = empty ? (amax_bits < kTinyBits ? 0.0F : float_of(kInfBits)) : float_of(amax_bits) * (1.0F / 127.0F);
  const float id = empty ? 0.0F : rcp(dx);
  for (std::uint32_t g = 0; g < kWideGroup / 16; ++g) {
    std::int32_t sum = 0;
    for (std::uint32_t i = g * 16; i < g * 16 + 16; ++i) {
      const std::int32_t q = empty ? 0 : quantise_one(x[i], id);
      xq[i] = static_cast<std::int8_t>(q);
      sum += q;
    }
    sum16[g] = static_cast<std::int16_t>(sum);
  }
  for (std::uint32_t g = 0; g < kWideGroup / 32; ++g) {
    sum32[g] = static_cast<std::int16_t>(sum16[2 * g] + sum16[2 * g + 1]);
  }
  return dx;
}

// ---- sums R(x)
// --------------------------------------------------------------------------------------------------------

// 32 values by a stride-halving tree: x[i] + x[i + 16], then + 8, 4, 2, 1.
ORCH_NUMERIC float leaf_sum(const std::array<float, kLeaf>& values) {
  std::array<float, kLeaf> v = values;
  for (std::uint32_t stride = kLeaf / 2; stride > 0; stride /= 2) {
    for (std::uint32_t i = 0; i < stride; ++i) v[i] = v[i] + v[i + stride];
  }
  return v[0];
}

// Adds leaf sums in a balanced adjacent tree, (0+1)+(2+3)..., as if padded with +0 to a power of two. Leaves arrive in
// order.
class LeafTree {
 public:
  ORCH_NUMERIC void add(float leaf) {
    std::uint32_t level = 0;
    for (; ((count_ >> level) & 1U) != 0; ++level) leaf = partial_[level] + leaf;
    partial_[level] = leaf;
    ++count_;
  }
  // Adding +0 for the missing right halves changes nothing: leaves are sums of squares or of exponentials, never -0.
  ORCH_NUMERIC float total() const {
    float sum = 0.0F;
    bool seen = false;
    for (std::uint32_t level = 0; level < partial_.size(); ++level) {
      if (((count_ >> level) & 1U) == 0) continue;
      sum = seen ? partial_[level] + sum : partial_[level];
      seen = true;
    }
    return sum;
  }

 private:
  std::array<float, 32> partial_{};
  std::uint32_t count_ = 0;
};

// R(f(0), f(1), ... f(n-1)): leaves of 32 contiguous values, the last padded with +0.
template <typename F>
ORCH_NUMERIC float tree_sum(std::size_t n, F f) {
  LeafTree tree;
  for (std::size_t base = 0; base < n; base += kLeaf) {
    std::array<float, kLeaf> leaf{};
    for (std::size_t i = 0; i < kLeaf && base + i < n; ++i) leaf[i] = f(base + i);
    tree.add(leaf_sum(leaf));
  }
  return tree.total();
}

// r = rsqrt(R(x * x) * float(1/n) + eps); y[i] = store((x[i] * r) * w[i]).
ORCH_NUMERIC void rms_norm(const float* x, const float* w, std::size_t n, float eps, float* y) {
  const float inverse = 1.0F / static_cast<float>(n);  // made on the host
  const float mean = tree_sum(n, [x](std::size_t i) { return x[i] * x[i]; }) * inverse;
  const float r = rsqrt(mean + eps);
  for (std::size_t i = 0; i < n; ++i) y[i] = store((x[i] * r) * w[i]);
}

// ---- f64 for RoPE tables (host only)
// ----------------------------------------------------------------------------------

struct SinCos {
  double sin = 0;
  double cos = 0;
};

// (-1)^floor(k/2) / k!: the Taylor coefficients of sine (odd k) and cosine (even k).
inline constexpr std::array<double, 19> kSignedInverseFactorial = [] {
  std::array<double, 19> table{};
  double factorial = 1.0;  // exact below 19!
  for (std::size_t k = 0; k < table.size(); ++k) {
    if (k > 0) factorial = factorial * static_cast<double>(k);
    table[k] = ((k / 2) % 2 != 0 ? -1.0 : 1.0) / factorial;
  }
  return table;
}();

// |x| <= 1.6e6 (positions to 2^20). Reduction by pi/2 in pieces of 33 + 33 + 53 bits (from a 70-digit pi), so that n *
// piece is exact for n < 2^20; Taylor polynomials 1/k! on |r| <= pi/4 (truncation below 1e-17).
ORCH_NUMERIC SinCos sincos64(double x) {
  const double scaled = x * 0x1.45f306dc9c883p-1;  // 2 / pi
  const std::int64_t n = static_cast<std::int64_t>(scaled + (scaled < 0 ? -0.5 : 0.5));
  const double nf = static_cast<double>(n);
  const double r = ((x - nf * 0x1.921fb544p+0) - nf * 0x1.0b4611a6p-34) - nf * 0x1.3198a2e037073p-69;
  const double z = r * r;
  double s = 0;
  double c = 0;
  for (std::size_t k = 17; k >= 3; k -= 2) s = s * z + kSignedInverseFactorial[k];
  for (std::size_t k = 18; k >= 4; k -= 2) c = c * z + kSignedInverseFactorial[k];
  const double sine = r + (r * z) * s;
  const double cosine = (1.0 - 0.5 * z) + (z * z) * c;
  switch (n & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

// e^x for |x| <= 700; as exp() above with a 32-bit high piece of ln 2 and degree 14.
ORCH_NUMERIC double exp64(double x) {
  const double scaled = x * 0x1.71547652b82fep+0;
  const std::int64_t n = static_cast<std::int64_t>(scaled + (scaled < 0 ? -0.5 : 0.5));
  const double nf = static_cast<double>(n);
  const double r = (x - nf * 0x1.62e42feep-1) - nf * 0x1.a39ef35793c76p-33;
  double p = 0;
  double factorial = 87178291200.0;  // 14!
  for (int k = 14; k >= 1; --k) {
    p = p * r + 1.0 / factorial;
    factorial = factorial / k;  // exact
  }
  return (1.0 + p * r) * std::bit_cast<double>(static_cast<std::uint64_t>(n + 1023) << 52);
}

// ln x for normal x > 0; as log() above, series to s^25.
ORCH_NUMERIC double log64(double x) {
  const std::uint64_t u = std::bit_cast<std::uint64_t>(x);
  std::int64_t e = static_cast<std::int64_t>(u >> 52) - 1023;
  double m = std::bit_cast<double>((u & 0x000F'FFFF'FFFF'FFFFULL) | 0x3FF0'0000'0000'0000ULL);
  if (m >= 0x1.6a09e667f3bcdp+0) {
    m = m * 0.5;
    e = e + 1;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double p = 0;
  for (int k = 25; k >= 3; k -= 2) p = p * z + 1.0 / k;
  const double series = 2.0 * s + 2.0 * s * z * p;
  const double ef = static_cast<double>(e);
  return ef * 0x1.62e42feep-1 + (series + ef * 0x1.a39ef35793c76p-33);
}

// Angle of pair `pair` at `position`: position * base^(-2 pair / dims) / factor. `factor` is 1 or the model's own
// divisor of that pair (rope_freqs).
ORCH_NUMERIC double rope_angle(std::uint32_t position, std::uint32_t pair, std::uint32_t dims, double base,
                               double factor) {
  const double exponent = -(2.0 * pair / dims) * log64(base);
  return static_cast<double>(position) * (exp64(exponent) / factor);
}

}  // namespace orch::worker::numerics
