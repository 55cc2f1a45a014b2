// out[row][n] = store((W x + bias) + residual) for weights of 32-element blocks, over int8 activation records
// (prepare.comp). A lane computes kRows weight rows for kTokens activation rows; each weight texel is read once for
// all of them. Order of the float steps: plan.h. Grid: x covers the weight rows by WIDTH * kRows, y the activation
// rows by kTokens.
//
// Device layout of weights, in texels of 4 words (weight_store.h): nibble types tile * 16 + row: word j = the tile's
// word [j][row]; q8_0 tile * 32 + half * 16 + row: words 4 half .. 4 half + 3. Scales: one word per tile row, d | m
// << 16; 5-bit types have a second one with the fifth bits.
//
// Two nibbles 16 bits apart times (x[k] << 16) + x[k + 2] give, modulo 2^32, (n0 x[k] + n1 x[k + 2]) << 16 plus n0
// x[k + 2]. A sum of 8 such stays inside 16 signed bits in both halves (8 * 2 * 15 * 127 = 30,480), so two sums cover
// a block of 32; adding 0x8000 first keeps the low half from borrowing. Of 5-bit quants a sum takes 4 (4 * 2 * 31 * 127
// = 31,496).
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 3) const uint kType = 1;  // 0 q4_0, 1 q4_1, 2 q8_0, 6 q5_0, 7 q5_1

const bool kFiveBits = kType == 6 || kType == 7;
const bool kHasMinimum = kType == 1 || kType == 7;
const uint kScaleWords = kFiveBits ? 2 : 1;
const uint kRecordTexels = kType == 2 ? 3 : 5;
const uint kTail = kRecordTexels - 1;
const uint kBlockGroups = 1;
const uint kOutputs = kType == 2 ? 2 : 1;
#include "matmul.glsl"

// Texel i of a token's record. With kShuffle the lane's own fetch was texel `lane`.
uvec4 shared_texel(uvec4 own, uint t, uint block, uint i) {
  if (kShuffle == 0) return record_texel(t, block, i);
  return uvec4(subgroupShuffle(own.x, i), subgroupShuffle(own.y, i), subgroupShuffle(own.z, i),
               subgroupShuffle(own.w, i));
}

float block_term(float d, float m, float dx, float s, int idot) {
  precise float t = (d * dx) * float(idot);
  if (kHasMinimum) {
    precise float with_minimum = t + m * s;
    return with_minimum;
  }
  return t;
}

void main() {
  uint first_row = gl_WorkGroupID.x * (WIDTH * kRows) + gl_LocalInvocationID.x;
  uint first_token = gl_WorkGroupID.y * kTokens;
  uint count = step_word(count_word);
  if (kMakes) make_input(first_token, count);
  uint last_row = (rows + 15u) / 16u * 16u - 1u;  // the last stored one, padding included

  float tot[kCells];
  float acc[kCells];
  uint tile_row[kRowsMax];  // tile * 16 + row at block 0
  [[unroll]] for (uint c = 0u; c < kTokens * kRows; ++c) {
    tot[c] = 0.0;
    acc[c] = 0.0;
  }
  [[unroll]] for (uint i = 0u; i < kRows; ++i) {
    uint row = min(first_row + i * WIDTH, last_row);
    tile_row[i] = (row >> 4) * blocks * 16u + (row & 15u);
  }
  uint own_texel = min(gl_SubgroupInvocationID, kTail);

  for (uint b = 0u; b < blocks; ++b) {
    uvec4 own[kTokensMax];
    [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
      own[t] = kShuffle != 0 ? record_texel(t, b, own_texel) : uvec4(0u);
    }
    int dot_low[kCells];
    int dot_high[kCells];
    [[unroll]] for (uint c = 0u; c < kTokens * kRows; ++c) {
      dot_low[c] = kType == 2 || kFiveBits ? 0 : 0x8000;
      dot_high[c] = dot_low[c];
    }
    uint scale_words[kRowsMax];
    [[unroll]] for (uint i = 0u; i < kRows; ++i) {
      scale_words[i] = texelFetch(scales, int((tile_row[i] + b * 16u) * kScaleWords)).x;
    }
    if (kType == 2) {
      [[unroll]] for (uint half_block = 0u; half_block < 2u; ++half_block) {
        uvec4 w[kRowsMax];
        [[unroll]] for (uint i = 0u; i < kRows; ++i) {
          uint at = tile_row[i] + b * 16u;
          w[i] = texelFetch(weights, int(((at >> 4) * 2u + half_block) * 16u + (at & 15u)));
        }
        [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
          uvec4 x = shared_texel(own[t], t, b, half_block);
          [[unroll]] for (uint j = 0u; j < 4u; ++j) {
            [[unroll]] for (int byte = 0; byte < 4; ++byte) {
              int xq = bitfieldExtract(int(x[j]), 8 * byte, 8);
              [[unroll]] for (uint i = 0u; i < kRows; ++i) {
                dot_low[t * kRows + i] += bitfieldExtract(int(w[i][j]), 8 * byte, 8) * xq;
              }
            }
          }
        }
      }
    } else if (kFiveBits) {
      uvec4 w[kRowsMax];
      uint fifth[kRowsMax];
      [[unroll]] for (uint i = 0u; i < kRows; ++i) {
        w[i] = texelFetch(weights, int(tile_row[i] + b * 16u));
        fifth[i] = texelFetch(scales, int((tile_row[i] + b * 16u) * 2u + 1u)).x;
      }
      [[unroll]] for (uint j = 0u; j < 4u; ++j) {
        [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
          uvec4 x = shared_texel(own[t], t, b, j);
          [[unroll]] for (uint i = 0u; i < kRows; ++i) {
            int products = 0x8000;
            [[unroll]] for (uint n = 0u; n < 4u; ++n) {
              // Bit j of a byte is for its low nibble (n = 0, 2), bit j + 4 for its high one.
              uint upper = ((fifth[i] >> (4u * n + j)) & 0x00010001u) << 4;
              products += int(((w[i][j] >> (4u * n)) & 0x000F000Fu) | upper) * int(x[n]);
            }
            dot_low[t * kRows + i] += products >> 16;
          }
        }
      }
    } else {
      uvec4 w[kRowsMax];
      [[unroll]] for (uint i = 0u; i < kRows; ++i) w[i] = texelFetch(weights, int(tile_row[i] + b * 16u));
      [[unroll]] for (uint j = 0u; j < 4u; ++j) {
        [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
          uvec4 x = shared_texel(own[t], t, b, j);
          [[unroll]] for (uint n = 0u; n < 4u; ++n) {
            [[unroll]] for (uint i = 0u; i < kRows; ++i) {
              int product = int((w[i][j] >> (4u * n)) & 0x000F000Fu) * int(x[n]);
              if (j < 2u) dot_low[t * kRows + i] += product;
              else dot_high[t * kRows + i] += product;
            }
          }
        }
      }
    }
    bool split_ends = (b & 7u) == 7u || b + 1u == blocks;
    [[unroll]] for (uint t = 0u; t < kTokens; ++t) {
      uvec4 tail = shared_texel(own[t], t, b, kTail);
      [[unroll]] for (uint i = 0u; i < kRows; ++i) {
        uint c = t * kRows + i;
        int idot = kType == 2 || kFiveBits ? dot_low[c] : (dot_low[c] >> 16) + (dot_high[c] >> 16);
        if (kType == 0) idot -= 8 * int(tail.z);
        if (kType == 6) idot -= 16 * int(tail.z);
        vec2 dm = unpackHalf2x16(scale_words[i]);
        float sum = plus(acc[c], block_term(dm.x, dm.y, uintBitsToFloat(tail.x), uintBitsToFloat(tail.y), idot));
        float total = plus(tot[c], sum);
        tot[c] = split_ends ? total : tot[c];
        acc[c] = split_ends ? 0.0 : sum;
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
