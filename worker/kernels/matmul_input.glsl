// The input of a matmul, row by row: RMSNorm of an activation row, silu(gate) * up, gelu(gate) * up, attention's splits
// joined, or the RMSNorm of a residual stream that a normed half of a layer joins first; then int8 groups of 32 or 256
// elements, one lane per group. Records (in 4-word texels), for the weight types that will read them; x[k] are the int8
// values:
//   nibble record, 20 words: 16 words (x[k] << 16) + x[k + 2] for k = 4j + {0, 16, 1, 17}, word
//                            4j + {0, 1, 2, 3}, j = 0..3, then dx, s, sum, 0. One 32-bit multiplication with two
//                            nibbles 16 bits apart then makes two products.
//   byte record, 12 words:   8 words of four int8, then dx, s, sum, 0.
//   wide record, 140 words (a group of 256): words (x[k] << 16) + x[k + 2] for k = 4j + {0, 1}, word 2j + {0, 1},
//                            j = 0..63; then dx, 0, 0, 0; then 8 words of two sums of 16 elements, the first low.
// Splits of attention (attention.comp) are joined in position order: M = maximum of m; w = exp(m - M), L = L + l * w,
// O[d] = O[d] + o[d] * w; element store(O[d] * rcp(L)).
//
// prepare.comp writes the records to memory; a matmul that makes its input itself keeps them in shared memory
// (matmul.glsl). The includer declares, beside step.glsl and numerics.glsl:
//   kSource       0 plain, 1 silu(source) * second, 2 RMSNorm, 3 gelu(source) * second, 4 splits of attention,
//                 5 RMSNorm of store(RMSNorm(source) + second)
//   kOutputs      bits: 1 nibble record, 2 byte record, 4 floats, 8 wide record
//   activations   4 words a texel; kSource 4: the partials
//   norm          4 words a texel; kSource 5: behind it the norm of `source`
//   groups        of 32 elements
//   stride, source, second                of an activation row, and offsets in it, in texels
//   inverse, eps                          float(1 / n)
//   head_texels, splits_max, window       kSource 4: of a head; partials per (row, head); as in attention.comp
//   nibble_base, byte_base, wide_base     where the records of row 0 begin, in texels
//   PUT_RECORD(at, texel), PUT_FLOATS(at, four), NORM_LEAVES
#ifndef MATMUL_INPUT_GLSL
#define MATMUL_INPUT_GLSL

const bool kMerges = kSource == 4;
const bool kJoins = kSource == 5;
const bool kNorms = kSource == 2 || kJoins;

vec4 span4(uint texel);
#define SPAN4(texel) span4(texel)
#include "row_norm.glsl"

const uint kWideTexels = 35;

// Of the row: where it begins, and with kJoins the factor of the norm of `source` once it is known.
uint row_base;
bool factor_known;
float added_factor;
// With kMerges: the splits that the row sees.
uint first_split;
uint end_split;

float add_product(float acc, float a, float b) {
  precise float sum = acc + a * b;
  return sum;
}

float minus(float a, float b) {
  precise float difference = a - b;
  return difference;
}

float scaled_by(float o, float inverse_sum) {
  precise float y = o * inverse_sum;
  return nx_store(y);
}

vec4 stored4(vec4 x) { return vec4(nx_store(x.x), nx_store(x.y), nx_store(x.z), nx_store(x.w)); }

// Elements 4i .. 4i + 3 of the residual stream with what joins it.
vec4 joined4(uint i) {
  vec4 y = normed4(fetch4(row_base + i), added_factor, uintBitsToFloat(texelFetch(norm, int(groups * 8u + i))));
  return stored4(plus4(y, fetch4(row_base + (second - source) + i)));
}

// The factor is known at once or not at all: no branch is left of this.
vec4 span4(uint texel) {
  if (kJoins && factor_known) return joined4(texel - row_base);
  return fetch4(texel);
}

vec4 merged4(uint base, uint i) {
  uint texels = head_texels + 1u;  // of one partial: {m, l, 0, 0}, then o
  uint at = base + i / head_texels * splits_max * texels;
  uint d4 = i % head_texels;
  float top = uintBitsToFloat(texelFetch(activations, int(at + first_split * texels)).x);
  for (uint s = first_split + 1u; s < end_split; ++s) {
    float m = uintBitsToFloat(texelFetch(activations, int(at + s * texels)).x);
    top = m > top ? m : top;
  }
  float l = 0.0;
  vec4 o = vec4(0.0);
  for (uint s = first_split; s < end_split; ++s) {
    vec4 head = fetch4(at + s * texels);
    vec4 part = fetch4(at + s * texels + 1u + d4);
    float w = nx_exp(minus(head.x, top));
    l = add_product(l, head.y, w);
    o = vec4(add_product(o.x, part.x, w), add_product(o.y, part.y, w), add_product(o.z, part.z, w),
             add_product(o.w, part.w, w));
  }
  float inverse_sum = nx_rcp(l);
  return vec4(scaled_by(o.x, inverse_sum), scaled_by(o.y, inverse_sum), scaled_by(o.z, inverse_sum),
              scaled_by(o.w, inverse_sum));
}

// Elements 4i .. 4i + 3 of the row.
vec4 value4(uint base, uint i, float r) {
  if (kMerges) return merged4(base, i);
  vec4 x = SPAN4(base + i);
  if (kSource == 1 || kSource == 3) {
    vec4 y = fetch4(base + (second - source) + i);
    if (kSource == 1) {
      return vec4(nx_silu_mul(x.x, y.x), nx_silu_mul(x.y, y.y), nx_silu_mul(x.z, y.z), nx_silu_mul(x.w, y.w));
    }
    return vec4(nx_gelu_mul(x.x, y.x), nx_gelu_mul(x.y, y.y), nx_gelu_mul(x.z, y.z), nx_gelu_mul(x.w, y.w));
  }
  if (kNorms) return normed4(x, r, uintBitsToFloat(texelFetch(norm, int(i))));
  return x;
}

uint magnitude4(vec4 x) {
  uvec4 a = floatBitsToUint(x) & kAbsMask;
  return max(max(a.x, a.y), max(a.z, a.w));
}

// How a group is scaled: dx, and id = rcp(dx). An empty group is all zero: too small, or not finite.
struct Scale {
  float dx;
  float id;
  bool empty;
};

Scale scale_of(uint amax_bits) {
  bool small = amax_bits < kTinyBits;
  Scale scale;
  scale.empty = small || amax_bits >= kInfBits;
  precise float scaled = uintBitsToFloat(amax_bits) * uintBitsToFloat(0x3C010204u);  // float(1 / 127)
  scale.dx = scale.empty ? (small ? 0.0 : uintBitsToFloat(kInfBits)) : scaled;
  scale.id = nx_rcp(scale.empty ? 1.0 : scale.dx);
  return scale;
}

ivec4 quantise4(vec4 x, Scale scale) {
  ivec4 q = ivec4(nx_quantise_one(x.x, scale.id), nx_quantise_one(x.y, scale.id), nx_quantise_one(x.z, scale.id),
                  nx_quantise_one(x.w, scale.id));
  return scale.empty ? ivec4(0) : q;
}

int sum4(ivec4 q) { return (q.x + q.y) + (q.z + q.w); }

uint packed_bytes(ivec4 q) {
  uvec4 u = uvec4(q) & 0xFFu;
  return u.x | (u.y << 8) | (u.z << 16) | (u.w << 24);
}

uint pair(int high, int low) { return uint(high) * 65536u + uint(low); }

void quantise_group(uint base, uint row, uint g, float r) {
  uint amax_bits = 0u;
  for (uint i = 0u; i < 8u; ++i) {
    vec4 x = value4(base, g * 8u + i, r);
    amax_bits = max(amax_bits, magnitude4(x));
    if ((kOutputs & 4u) != 0u) PUT_FLOATS((row * groups + g) * 8u + i, x);
  }
  if ((kOutputs & 3u) == 0u) return;
  Scale scale = scale_of(amax_bits);
  int sum = 0;
  uint nibble_at = nibble_base + (row * groups + g) * 5u;
  uint byte_at = byte_base + (row * groups + g) * 3u;
  uvec4 bytes_low = uvec4(0u);
  uvec4 bytes_high = uvec4(0u);
  for (uint j = 0u; j < 4u; ++j) {
    ivec4 low = quantise4(value4(base, g * 8u + j, r), scale);
    ivec4 high = quantise4(value4(base, g * 8u + j + 4u, r), scale);
    sum += sum4(low) + sum4(high);
    if ((kOutputs & 1u) != 0u) {
      PUT_RECORD(nibble_at + j, uvec4(pair(low.x, low.z), pair(high.x, high.z), pair(low.y, low.w),
                                      pair(high.y, high.w)));
    }
    if ((kOutputs & 2u) != 0u) {
      bytes_low = uvec4(bytes_low.yzw, packed_bytes(low));
      bytes_high = uvec4(bytes_high.yzw, packed_bytes(high));
    }
  }
  precise float product = scale.dx * float(sum);
  float s = scale.empty ? scale.dx : product;
  uvec4 tail = uvec4(floatBitsToUint(scale.dx), floatBitsToUint(s), uint(sum), 0u);
  if ((kOutputs & 1u) != 0u) PUT_RECORD(nibble_at + 4u, tail);
  if ((kOutputs & 2u) != 0u) {
    PUT_RECORD(byte_at, bytes_low);
    PUT_RECORD(byte_at + 1u, bytes_high);
    PUT_RECORD(byte_at + 2u, tail);
  }
}

void quantise_wide_group(uint base, uint row, uint g, float r) {
  uint amax_bits = 0u;
  for (uint i = 0u; i < 64u; ++i) amax_bits = max(amax_bits, magnitude4(value4(base, g * 64u + i, r)));
  Scale scale = scale_of(amax_bits);
  uint at = wide_base + (row * (groups / 8u) + g) * kWideTexels;
  uvec4 sums = uvec4(0u);
  for (uint leaf = 0u; leaf < 8u; ++leaf) {  // of 32 elements: one word of two sums
    uint word = 0u;
    for (uint i = 0u; i < 4u; ++i) {
      uint quad = g * 64u + leaf * 8u + i * 2u;
      ivec4 a = quantise4(value4(base, quad, r), scale);
      ivec4 b = quantise4(value4(base, quad + 1u, r), scale);
      PUT_RECORD(at + leaf * 4u + i, uvec4(pair(a.x, a.z), pair(a.y, a.w), pair(b.x, b.z), pair(b.y, b.w)));
      int sum = sum4(a) + sum4(b);
      // Quads 0 to 3 make the first sum of 16, quads 4 to 7 the second. Each half is kept modulo 2^16.
      word = i < 2u ? (word + uint(sum)) & 0xFFFFu : word + (uint(sum) << 16);
    }
    sums = uvec4(sums.yzw, word);
    if ((leaf & 3u) == 3u) PUT_RECORD(at + 33u + (leaf >> 2), sums);
  }
  PUT_RECORD(at + 32u, uvec4(floatBitsToUint(scale.dx), 0u, 0u, 0u));
}

void quantise_lane(uint base, uint row, uint g, float r) {
  if ((kOutputs & 7u) != 0u) quantise_group(base, row, g, r);
  if ((kOutputs & 8u) != 0u && g < groups / 8u) quantise_wide_group(base, row, g, r);
}

// The partials of the row; kMerges.
uint find_splits(uint row) {
  uint position = step_word(kRowsWord + 4u * row + 1u);
  first_split = window != 0u && position + 1u > window ? (position + 1u - window) / 256u : 0u;
  end_split = position / 256u + 1u;
  return row * (groups * 8u / head_texels) * splits_max * (head_texels + 1u);
}

// The factor of the row's norm; of no other it is read. All lanes come by: barriers.
float row_factor() {
  if (kJoins) {
    factor_known = false;
    added_factor = norm_factor(row_base, groups * 8u, inverse, eps);
    factor_known = true;
    barrier();  // all have read the sum that the next one replaces
  }
  return norm_factor(row_base, groups * 8u, inverse, eps);
}

#endif
