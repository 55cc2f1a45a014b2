// Rotates q in place and k, and writes k and v of each row to the layer's KV page as f16. Grid: x covers the work
// items, y = rows. Items of a row, in this order: pairs of q (heads * dims / 2), words of k (kv_heads * dims / 2),
// words of v (the same). Page of this layer: K [kv_head][d / 8][32 keys][8] then V [kv_head][32 keys][d], f16; a word
// holds elements 2i and 2i + 1.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kAdjacent = 1;  // 1: pairs (2i, 2i + 1); 0: pairs (i, i + rope_dims / 2)

layout(set = 0, binding = 1) uniform usamplerBuffer activations;  // 1 word a texel
layout(set = 0, binding = 2) uniform usamplerBuffer rope;         // 1 word a texel: per position cosines, then sines
layout(set = 0, binding = 6) buffer Rotated { float results[]; };  // the activation rows again
layout(set = 0, binding = 6) buffer Counted { uint counters[]; };  // the same buffer, for one counter behind the rows
layout(set = 0, binding = 7) writeonly buffer Pages { uint pages[]; };

layout(push_constant) uniform Push {
  uint stride;  // floats of an activation row
  uint query;   // offsets in it
  uint key;
  uint value;
  uint heads;
  uint kv_heads;
  uint dims;       // of a head, even
  uint rope_dims;  // rotated ones, even
  uint saturated;  // word of the counter of values beyond f16
};

float activation(uint i) { return uintBitsToFloat(texelFetch(activations, int(i)).x); }

float first_of(float a, float b, float c, float s) {
  precise float y = a * c - b * s;
  return nx_store(y);
}

float second_of(float a, float b, float c, float s) {
  precise float y = a * s + b * c;
  return nx_store(y);
}

float table(uint position, uint column) {
  return uintBitsToFloat(texelFetch(rope, int(position * rope_dims + column)).x);
}

// Pair p of the head at `base`: elements and where they stand.
uvec2 pair_at(uint base, uint p) {
  if (2u * p >= rope_dims || kAdjacent != 0) return uvec2(base + 2u * p, base + 2u * p + 1u);
  return uvec2(base + p, base + p + rope_dims / 2u);
}

float rotated(uint base, uint d, uint position) {
  float x = activation(base + d);
  if (d >= rope_dims) return x;
  uint p = kAdjacent != 0 ? d >> 1 : d % (rope_dims / 2u);
  bool is_first = kAdjacent != 0 ? (d & 1u) == 0u : d < rope_dims / 2u;
  uvec2 at = pair_at(base, p);
  float c = table(position, p);
  float s = table(position, p + rope_dims / 2u);
  float a = activation(at.x);
  float b = activation(at.y);
  return is_first ? first_of(a, b, c, s) : second_of(a, b, c, s);
}

bool saturates(float x) {
  uint a = floatBitsToUint(x) & kAbsMask;
  return a >= 0x477FF000u && a <= kInfBits;
}

uint halves(float low, float high) {
  uint count = (saturates(low) ? 1u : 0u) + (saturates(high) ? 1u : 0u);
  if (count != 0u) atomicAdd(counters[saturated], count);
  return nx_f32_to_f16(low) | (nx_f32_to_f16(high) << 16);
}

void main() {
  uint item = gl_GlobalInvocationID.x;
  uint row = gl_WorkGroupID.y;
  uint position = step_word(kRowsWord + 4u * row + 1u);
  uint page = step_word(step_word(kRowsWord + 4u * row + 2u) + position / 32u);
  uint slot = position & 31u;
  uint pairs = dims / 2u;
  uint page_words = 32u * kv_heads * dims;  // K and V, two elements a word
  uint base = row * stride;
  if (item < heads * pairs) {
    uint p = item % pairs;
    if (2u * p >= rope_dims) return;  // not rotated: stays where it is
    uvec2 at = pair_at(base + query + item / pairs * dims, p);
    float c = table(position, p);
    float s = table(position, p + rope_dims / 2u);
    float a = activation(at.x);
    float b = activation(at.y);
    results[at.x] = first_of(a, b, c, s);
    results[at.y] = second_of(a, b, c, s);
    return;
  }
  item -= heads * pairs;
  if (item < kv_heads * pairs) {
    uint head = item / pairs;
    uint d = 2u * (item % pairs);
    uint from = base + key + head * dims;
    uint to = ((head * (dims / 8u) + d / 8u) * 32u + slot) * 4u + (d & 7u) / 2u;
    pages[page * page_words + to] = halves(rotated(from, d, position), rotated(from, d + 1u, position));
    return;
  }
  item -= kv_heads * pairs;
  if (item < kv_heads * pairs) {
    uint head = item / pairs;
    uint d = 2u * (item % pairs);
    uint from = base + value + head * dims + d;
    uint to = page_words / 2u + (head * 32u + slot) * pairs + d / 2u;
    pages[page * page_words + to] = halves(activation(from), activation(from + 1u));
  }
}
