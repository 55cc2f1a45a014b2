// RMSNorm of a span of an activation row by one workgroup: r of the span, then single elements. The includer declares
// `activations` as a texel buffer of 4 words, and SPAN4(texel) where it computes elements of a span instead of reading
// them. Spans are multiples of 8 elements; a short last leaf counts as padded with +0.
#ifndef ROW_NORM_GLSL
#define ROW_NORM_GLSL

const uint kLeavesMax = 1024;
shared float leaves[NORM_LEAVES];

#ifndef SPAN4
#define SPAN4(texel) fetch4(texel)
#endif

vec4 fetch4(uint texel) { return uintBitsToFloat(texelFetch(activations, int(texel))); }

float plus(float a, float b) {
  precise float s = a + b;
  return s;
}

float square(float x) {
  precise float s = x * x;
  return s;
}

vec4 square4(vec4 x) { return vec4(square(x.x), square(x.y), square(x.z), square(x.w)); }

vec4 plus4(vec4 a, vec4 b) { return vec4(plus(a.x, b.x), plus(a.y, b.y), plus(a.z, b.z), plus(a.w, b.w)); }

// Texel i of the leaf plus texel i + 4 (elements 16 apart), squared: the first level of leaf_sum. Texels from `end` on
// are padding.
vec4 folded(uint base, uint i, uint end) {
  vec4 a = i < end ? SPAN4(base + i) : vec4(0.0);
  vec4 b = i + 4u < end ? SPAN4(base + i + 4u) : vec4(0.0);
  return plus4(square4(a), square4(b));
}

float leaf_sum(uint base, uint end) {
  vec4 v = plus4(plus4(folded(base, 0u, end), folded(base, 2u, end)),
                 plus4(folded(base, 1u, end), folded(base, 3u, end)));
  return plus(plus(v.x, v.z), plus(v.y, v.w));
}

// R(x * x) of `texels` texels: leaf sums meet in shared memory, one lane adds them in the balanced adjacent tree.
float sum_of_squares(uint base, uint texels) {
  uint count = (texels + 7u) / 8u;
  for (uint g = gl_LocalInvocationID.x; g < count; g += WIDTH) {
    leaves[g] = leaf_sum(base + g * 8u, min(texels - g * 8u, 8u));
  }
  barrier();
  if (gl_LocalInvocationID.x == 0u) {
    for (uint apart = 1u; apart < count; apart *= 2u) {
      for (uint i = 0u; i + apart < count; i += 2u * apart) leaves[i] = plus(leaves[i], leaves[i + apart]);
    }
  }
  barrier();
  return leaves[0];
}

// `inverse` is float(1 / elements), made on the host.
float norm_factor(uint base, uint texels, float inverse, float eps) {
  precise float mean = sum_of_squares(base, texels) * inverse;
  precise float shifted = mean + eps;
  return nx_rsqrt(shifted);
}

float normed(float x, float r, float w) {
  precise float y = (x * r) * w;
  return nx_store(y);
}

vec4 normed4(vec4 x, float r, vec4 w) {
  return vec4(normed(x.x, r, w.x), normed(x.y, r, w.y), normed(x.z, r, w.z), normed(x.w, r, w.w));
}

#endif
