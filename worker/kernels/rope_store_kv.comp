// Norms the heads of q and k where the model does, rotates q in place and k, and writes k and v of each row to the
// layer's KV page as f16. A workgroup takes one head. Grid: x = heads of q, of k, of v; y = rows. Page of this layer: K
// [kv_head][d / 8][32 keys][8] then V [kv_head][32 keys][d], f16; a word holds elements 2i and 2i + 1.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "step.glsl"
#include "numerics.glsl"

layout(constant_id = 1) const uint kAdjacent = 1;  // 1: pairs (2i, 2i + 1); 0: pairs (i, i + rope_dims / 2)
layout(constant_id = 2) const uint kNorms = 0;     // bits: 1 norms the heads of q, 2 those of k

layout(set = 0, binding = 1) uniform usamplerBuffer activations;  // 4 words a texel
layout(set = 0, binding = 2) uniform usamplerBuffer rope;         // 1 word a texel: per position cosines, then sines
layout(set = 0, binding = 3) uniform usamplerBuffer elements;     // 1 word a texel: the activation rows again
layout(set = 0, binding = 4) uniform usamplerBuffer query_norm;   // 1 word a texel
layout(set = 0, binding = 5) uniform usamplerBuffer key_norm;     // 1 word a texel
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
  float inverse;   // float(1 / dims)
  float eps;
};

#define NORM_LEAVES (kNorms != 0 ? kLeavesMax : 1)
#include "row_norm.glsl"

// What a workgroup's head is: where it begins, and its norm.
struct Head {
  uint base;
  bool of_key;
  bool has_norm;
  float r;
};

float element(Head head, uint d) {
  float x = uintBitsToFloat(texelFetch(elements, int(head.base + d)).x);
  if (kNorms == 0) return x;
  uvec4 w = head.of_key ? texelFetch(key_norm, int(d)) : texelFetch(query_norm, int(d));
  return head.has_norm ? normed(x, head.r, uintBitsToFloat(w.x)) : x;
}

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

// Pair p of a head: which elements it is.
uvec2 pair_of(uint p) {
  if (2u * p >= rope_dims || kAdjacent != 0) return uvec2(2u * p, 2u * p + 1u);
  return uvec2(p, p + rope_dims / 2u);
}

float rotated(Head head, uint d, uint position) {
  if (d >= rope_dims) return element(head, d);
  uint p = kAdjacent != 0 ? d >> 1 : d % (rope_dims / 2u);
  bool is_first = kAdjacent != 0 ? (d & 1u) == 0u : d < rope_dims / 2u;
  uvec2 at = pair_of(p);
  float c = table(position, p);
  float s = table(position, p + rope_dims / 2u);
  float a = element(head, at.x);
  float b = element(head, at.y);
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

void rotate_query(Head head, uint position) {
  for (uint p = gl_LocalInvocationID.x; p < dims / 2u; p += WIDTH) {
    uvec2 at = pair_of(p);
    float a = element(head, at.x);
    float b = element(head, at.y);
    if (2u * p < rope_dims) {
      float c = table(position, p);
      float s = table(position, p + rope_dims / 2u);
      float first = first_of(a, b, c, s);
      b = second_of(a, b, c, s);
      a = first;
    }
    results[head.base + at.x] = a;
    results[head.base + at.y] = b;
  }
}

void main() {
  uint which = gl_WorkGroupID.x;
  uint row = gl_WorkGroupID.y;
  uint position = step_word(kRowsWord + 4u * row + 1u);
  uint page = step_word(step_word(kRowsWord + 4u * row + 2u) + position / 32u);
  uint slot = position & 31u;
  uint pairs = dims / 2u;
  uint page_words = 32u * kv_heads * dims;  // K and V, two elements a word
  bool of_query = which < heads;
  bool of_value = which >= heads + kv_heads;
  uint kv_head = which - heads - (of_value ? kv_heads : 0u);
  Head head;
  head.base = row * stride + (of_query ? query + which * dims : (of_value ? value : key) + kv_head * dims);
  head.of_key = !of_query;
  head.has_norm = (of_query && (kNorms & 1u) != 0u) || (!of_query && !of_value && (kNorms & 2u) != 0u);
  head.r = 0.0;
  // Every workgroup comes by, so that no barrier stands in a branch.
  if (kNorms != 0) head.r = norm_factor(head.base / 4u, dims / 4u, inverse, eps);
  if (of_query) {
    rotate_query(head, position);
    return;
  }
  for (uint p = gl_LocalInvocationID.x; p < pairs; p += WIDTH) {
    uint d = 2u * p;
    if (of_value) {
      uint to = page_words / 2u + (kv_head * 32u + slot) * pairs + p;
      pages[page * page_words + to] = halves(element(head, d), element(head, d + 1u));
    } else {
      uint to = ((kv_head * (dims / 8u) + d / 8u) * 32u + slot) * 4u + (d & 7u) / 2u;
      pages[page * page_words + to] = halves(rotated(head, d, position), rotated(head, d + 1u, position));
    }
  }
}
