// out[row][n] = store((W x + bias) + residual) for K-quants: weights of 256-element blocks over wide records
// (prepare.comp). A lane computes kRows weight rows for kTokens activation rows. Order of the float steps: plan.h. Grid
// as matmul_quant.comp.
//
// Device layout of weights, in texels of 4 words (weight_store.h): (tile * T + t) * 16 + row. t = 0..7: the nibbles,
// word 4t + w of the row; then the upper bits (none; 2 texels of fifth bits; 4 texels of pairs of bits); the last
// texel: 8 sub-scales, 8 sub-minima, or 16 sub-scales, a byte each. Scales: one word per tile row, d | dmin << 16.
//
// Texel 2 * part + step of the nibbles holds 16 elements in its low and 16 in its high nibbles, each lot inside one
// sub-block. Products are made as in matmul_quant.comp; one sum takes 4 elements, at most 4 * 63 * 127 = 32,004.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 3) const uint kType = 0;  // 0 q4_k, 1 q5_k, 2 q6_k

const uint kRecordTexels = 35;
const uint kBlockGroups = 8;
const uint kOutputs = 8;
#include "matmul.glsl"

const uint kSixBits = kType == 2 ? 1 : 0;
const uint kTileTexels = kType == 0 ? 9 : (kType == 1 ? 11 : 13);
const uint kUpperMask = kType == 2 ? 0x00030003u : 0x00010001u;

uvec4 weight_texel(uint tile_row, uint t) {
  return texelFetch(weights, int(((tile_row >> 4) * kTileTexels + t) * 16u + (tile_row & 15u)));
}

// Texel `at` of a record. With kShuffle (8 lanes or more) it is the own one of lane `lane`.
uvec4 shared_texel(uvec4 own, uint t, uint block, uint at, uint lane) {
  if (kShuffle == 0) return record_texel(t, block, at);
  return uvec4(subgroupShuffle(own.x, lane), subgroupShuffle(own.y, lane), subgroupShuffle(own.z, lane),
               subgroupShuffle(own.w, lane));
}

// The first record texels of the elements in the low and in the high nibbles of texels 2 * part and 2 * part + 1.
uint low_texel(uint part) { return kSixBits != 0 ? 16u * (part >> 1) + 4u * (part & 1u) : 8u * part; }
uint high_texel(uint part) { return low_texel(part) + (kSixBits != 0 ? 8u : 4u); }

int byte_of(uvec4 words, uint i) {
  uint byte = (words[i >> 2] >> (8u * (i & 3u))) & 0xFFu;
  return kSixBits != 0 ? bitfieldExtract(int(byte), 0, 8) : int(byte);
}

// 16 bits, as the records hold them.
int half_of(uint word, uint i) { return bitfieldExtract(int(word), int(16u * i), 16); }

// Four elements of a word: bytes 0 and 2 are `even`, 1 and 3 `odd`, two quants 16 bits apart each.
int four_products(uint even, uint odd, uint x_even, uint x_odd) {
  return (0x8000 + int(even * x_even) + int(odd * x_odd)) >> 16;
}

float scaled(float d, float dx, int i) {
  precise float t = (d * dx) * float(i);
  return t;
}

void main() {
  uint first_row = gl_WorkGroupID.x * (WIDTH * kRows) + gl_LocalInvocationID.x;
  uint first_token = gl_WorkGroupID.y * kTokens;
  uint count = step_word(count_word);
  if (kMakes) make_input(first_token, count);
  uint last_row = (rows + 15u) / 16u * 16u - 1u;  // the last stored one, padding included

  float tot[kCells];
  uint tile_row[kRowsMax];  // tile * 16 + row at block 0
  [[unroll]] for (uint c = 0u; c < kTokens * kRows; ++c) tot[c] = 0.0;
  [[unroll]] for (uint i = 0u; i < kRows; ++i) {
    uint row = min(first_row + i * WIDTH, last_row);
    tile_row[i] = (row >> 4) * blocks * 16u + (row & 15u);
  }

  for (uint b = 0u; b < blocks; ++b) {
    int p[kCells];
    uvec4 sub[kRowsMax];
    [[unroll]] for (uint c = 0u; c < kTokens * kRows; ++c) p[c] = 0;
    [[unroll]] for (uint i = 0u; i < kRows; ++i) sub[i] = weight_texel(tile_row[i] + b * 16u, kTileTexels - 1u);
    for (uint part = 0u; part < 4u; ++part) {
      uvec4 own[kTokensMax];
      uint lane = min(gl_SubgroupInvocationID, 7u);
      uint own_at = lane < 4u ? low_texel(part) + lane : high_texel(part) + lane - 4u;
      [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
        own[t] = kShuffle != 0 ? record_texel(t, b, own_at) : uvec4(0u);
      }
      for (uint half_part = 0u; half_part < 2u; ++half_part) {
        uvec4 w[kRowsMax];
        uvec4 upper[kRowsMax];
        [[unroll]] for (uint i = 0u; i < kRows; ++i) {
          uint at = tile_row[i] + b * 16u;
          w[i] = weight_texel(at, 2u * part + half_part);
          if (kType == 1) upper[i] = weight_texel(at, 8u + half_part) >> (2u * part);
          if (kType == 2) upper[i] = weight_texel(at, 8u + 2u * (part >> 1) + half_part) >> (2u * (part & 1u));
        }
        int low_dot[kCells];
        int high_dot[kCells];
        [[unroll]] for (uint c = 0u; c < kTokens * kRows; ++c) {
          low_dot[c] = 0;
          high_dot[c] = 0;
        }
        [[unroll]] for (uint j = 0u; j < 4u; ++j) {
          uint low_even[kRowsMax];
          uint low_odd[kRowsMax];
          uint high_even[kRowsMax];
          uint high_odd[kRowsMax];
          [[unroll]] for (uint i = 0u; i < kRows; ++i) {
            low_even[i] = w[i][j] & 0x000F000Fu;
            high_even[i] = (w[i][j] >> 4) & 0x000F000Fu;
            low_odd[i] = (w[i][j] >> 8) & 0x000F000Fu;
            high_odd[i] = (w[i][j] >> 12) & 0x000F000Fu;
            if (kType != 0) {
              uint to_high = kSixBits != 0 ? 4u : 1u;
              low_even[i] |= (upper[i][j] & kUpperMask) << 4;
              low_odd[i] |= ((upper[i][j] >> 8) & kUpperMask) << 4;
              high_even[i] |= ((upper[i][j] >> to_high) & kUpperMask) << 4;
              high_odd[i] |= ((upper[i][j] >> (8u + to_high)) & kUpperMask) << 4;
            }
          }
          [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
            uint at = 2u * half_part + (j >> 1);
            uvec4 x_low = shared_texel(own[t], t, b, low_texel(part) + at, at);
            uvec4 x_high = shared_texel(own[t], t, b, high_texel(part) + at, 4u + at);
            uvec2 low = (j & 1u) == 0u ? x_low.xy : x_low.zw;
            uvec2 high = (j & 1u) == 0u ? x_high.xy : x_high.zw;
            [[unroll]] for (uint i = 0u; i < kRows; ++i) {
              low_dot[t * kRows + i] += four_products(low_even[i], low_odd[i], low.x, low.y);
              high_dot[t * kRows + i] += four_products(high_even[i], high_odd[i], high.x, high.y);
            }
          }
        }
        uint low_scale = kSixBits != 0 ? 8u * (part >> 1) + 2u * (part & 1u) + half_part : 2u * part;
        uint high_scale = low_scale + (kSixBits != 0 ? 4u : 1u);
        [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
          int low_offset = 0;
          int high_offset = 0;
          if (kSixBits != 0) {
            uvec4 sums = record_texel(t, b, 33u + (part >> 1));
            uint pair = part & 1u;  // words of the low nibbles' sums: pair; of the high ones': pair + 2
            low_offset = 32 * half_of(sums[pair], half_part);
            high_offset = 32 * half_of(sums[pair + 2u], half_part);
          }
          [[unroll]] for (uint i = 0u; i < kRows; ++i) {
            uint c = t * kRows + i;
            p[c] += byte_of(sub[i], low_scale) * (low_dot[c] - low_offset) +
                    byte_of(sub[i], high_scale) * (high_dot[c] - high_offset);
          }
        }
      }
    }
    uint scale_words[kRowsMax];
    [[unroll]] for (uint i = 0u; i < kRows; ++i) scale_words[i] = texelFetch(scales, int(tile_row[i] + b * 16u)).x;
    [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
      float dx = uintBitsToFloat(record_texel(t, b, 32u).x);
      uvec4 sums[2] = {record_texel(t, b, 33u), record_texel(t, b, 34u)};
      [[unroll]] for (uint i = 0u; i < kRows; ++i) {
        uint c = t * kRows + i;
        vec2 d = unpackHalf2x16(scale_words[i]);
        float term = scaled(d.x, dx, p[c]);
        if (kSixBits == 0) {
          int n = 0;
          [[unroll]] for (uint s = 0u; s < 8u; ++s) {
            uint word = sums[s >> 2][s & 3u];
            n += byte_of(sub[i], 8u + s) * (half_of(word, 0u) + half_of(word, 1u));
          }
          term = minus(term, scaled(d.y, dx, n));
        }
        tot[c] = plus(tot[c], term);  // a block is a split: +0 + term
      }
    }
  }
  [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
    [[unroll]] for (uint i = 0u; i < kRows; ++i) {
      uint token = first_token + t;
      uint row = first_row + i * WIDTH;
      if (token >= count || row >= rows) continue;
      float y = tot[t * kRows + i];
      if ((flags & 1u) != 0u) y = plus(y, uintBitsToFloat(texelFetch(biases, int(row)).x));
      if ((flags & 2u) != 0u) {
        y = plus(y, uintBitsToFloat(texelFetch(residuals, int(token * residual_stride + residual_offset + row)).x));
      }
      results[token * out_stride + out_offset + row] = nx_store(y);
    }
  }
}
