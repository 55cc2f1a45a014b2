// Paged attention. Scores have keys in lanes, values have head elements in lanes, so every lane sums in the contract's
// order. A page's K tile is transposed to [d][32] f32 and its V tile widened once, then used by all rows and heads of
// the call.
#include <algorithm>

#include "worker/core/numerics.h"
#include "worker/cpu/avx2_math.h"
#include "worker/cpu/kernels_avx2.h"

namespace orch::worker::cpu::avx2 {
namespace {

constexpr std::uint32_t kSplit = numerics::kAttentionSplit;

// Where one call keeps its partial results; all inside args.workspace.
struct Workspace {
  float* page = nullptr;    // one K or V tile as f32
  float* scores = nullptr;  // [state][256]
  float* m = nullptr;       // [split][state]
  float* l = nullptr;
  float* o = nullptr;  // [split][state][head_dim]
};

Workspace lay_out(const AttentionArgs& args, std::uint32_t states, std::uint32_t splits) {
  Workspace w;
  w.page = args.workspace;
  w.scores = w.page + std::size_t{kPageTokens} * args.head_dim;
  w.m = w.scores + std::size_t{states} * kSplit;
  w.l = w.m + std::size_t{splits} * states;
  w.o = w.l + std::size_t{splits} * states;
  return w;
}

ORCH_AVX2_INLINE void transpose8(__m256* r) {
  __m256 t[8];
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  __m256 u[8];
  for (int i = 0; i < 2; ++i) {
    u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xEE);
    u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x20);
    r[4 + i] = _mm256_permute2f128_ps(u[i], u[4 + i], 0x31);
  }
}

// K tile [d / 8][32][8] f16 -> [d][32] f32.
void load_keys(const std::uint16_t* keys, std::uint32_t head_dim, float* out) {
  for (std::uint32_t d = 0; d < head_dim; d += 8) {
    for (std::uint32_t key = 0; key < kPageTokens; key += 8) {
      __m256 r[8];
      for (std::uint32_t i = 0; i < 8; ++i) r[i] = widen_lanes(keys + (std::size_t{d / 8} * kPageTokens + key + i) * 8);
      transpose8(r);
      for (std::uint32_t i = 0; i < 8; ++i) _mm256_storeu_ps(out + std::size_t{d + i} * kPageTokens + key, r[i]);
    }
  }
}

void load_values(const std::uint16_t* values, std::uint32_t count, float* out) {
  for (std::uint32_t i = 0; i < count; i += 8) _mm256_storeu_ps(out + i, widen_lanes(values + i));
}

const std::uint16_t* page_at(const AttentionArgs& args, std::uint32_t position) {
  return args.kv_base + args.pages[position / kPageTokens] * args.page_stride;
}

// Scores of the 32 keys of one page; keys past the row are computed and ignored.
void score_page(const float* keys, const float* q, std::uint32_t head_dim, float scale, float* scores) {
  __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
  for (std::uint32_t d = 0; d < head_dim; ++d) {
    const __m256 qd = _mm256_set1_ps(q[d]);
    for (std::uint32_t i = 0; i < 4; ++i) {
      sum[i] = _mm256_add_ps(sum[i], _mm256_mul_ps(qd, _mm256_loadu_ps(keys + std::size_t{d} * kPageTokens + 8 * i)));
    }
  }
  for (std::uint32_t i = 0; i < 4; ++i) _mm256_storeu_ps(scores + 8 * i, _mm256_mul_ps(sum[i], _mm256_set1_ps(scale)));
}

// The keys of a split that a row sees: begin..end, counted from the split's start. Empty when the whole split is
// masked.
struct KeyRange {
  std::uint32_t begin = 0;
  std::uint32_t end = 0;

  bool empty() const { return begin >= end; }
  bool meets_page(std::uint32_t key) const { return begin < key + kPageTokens && end > key; }
};

// scores of `keys` -> weights p with l = R(p); what lies before them and the rest of the last leaf becomes +0. Returns
// m.
float soften(float* scores, const KeyRange& keys, float* l) {
  const std::uint32_t padded = (keys.end + 31) / 32 * 32;
  float m = scores[keys.begin];
  for (std::uint32_t j = keys.begin + 1; j < keys.end; ++j) m = scores[j] > m ? scores[j] : m;
  std::fill(scores, scores + keys.begin, -__builtin_inff());  // exp gives exactly +0
  std::fill(scores + keys.end, scores + padded, -__builtin_inff());
  const __m256 maximum = _mm256_set1_ps(m);
  numerics::LeafTree tree;
  for (std::uint32_t j = 0; j < padded; j += 32) {
    __m256 p[4];
    for (std::uint32_t i = 0; i < 4; ++i) {
      p[i] = exp_lanes(_mm256_sub_ps(_mm256_loadu_ps(scores + j + 8 * i), maximum));
      _mm256_storeu_ps(scores + j + 8 * i, p[i]);
    }
    // A NaN or infinite maximum turns the padding into NaN; the sum is then NaN in the reference too.
    tree.add(leaf_sum_lanes(p[0], p[1], p[2], p[3]));
  }
  *l = tree.total();
  return m;
}

// o += p_j * v_j for the first `count` keys of a page.
void add_values(const float* values, const float* p, std::uint32_t count, std::uint32_t head_dim, float* o) {
  for (std::uint32_t d = 0; d < head_dim; d += 32) {
    const std::uint32_t lanes = std::min(head_dim - d, 32U) / 8;
    __m256 sum[4];
    for (std::uint32_t i = 0; i < lanes; ++i) sum[i] = _mm256_loadu_ps(o + d + 8 * i);
    if (lanes == 4) {
      for (std::uint32_t j = 0; j < count; ++j) {
        const __m256 pj = _mm256_set1_ps(p[j]);
        for (std::uint32_t i = 0; i < 4; ++i) {
          sum[i] =
              _mm256_add_ps(sum[i], _mm256_mul_ps(pj, _mm256_loadu_ps(values + std::size_t{j} * head_dim + d + 8 * i)));
        }
      }
    } else {
      for (std::uint32_t j = 0; j < count; ++j) {
        const __m256 pj = _mm256_set1_ps(p[j]);
        for (std::uint32_t i = 0; i < lanes; ++i) {
          sum[i] =
              _mm256_add_ps(sum[i], _mm256_mul_ps(pj, _mm256_loadu_ps(values + std::size_t{j} * head_dim + d + 8 * i)));
        }
      }
    }
    for (std::uint32_t i = 0; i < lanes; ++i) _mm256_storeu_ps(o + d + 8 * i, sum[i]);
  }
}

KeyRange visible_keys(const AttentionArgs& args, std::uint32_t row, std::uint32_t split) {
  const std::uint32_t first = split * kSplit;
  const auto within = [first](std::uint32_t key) { return key <= first ? 0 : std::min(key - first, kSplit); };
  return {within(args.first_key(row)), within(args.first_position + row + 1)};
}

void attend_split(const AttentionArgs& args, const Workspace& w, std::uint32_t split) {
  const std::uint32_t states = args.rows * args.heads;
  // The first row's window starts first, the last row's ends last.
  const std::uint32_t least = visible_keys(args, 0, split).begin / kPageTokens * kPageTokens;
  const std::uint32_t most = visible_keys(args, args.rows - 1, split).end;
  for (std::uint32_t key = least; key < most; key += kPageTokens) {
    load_keys(page_at(args, split * kSplit + key) + args.key_offset, args.head_dim, w.page);
    for (std::uint32_t state = 0; state < states; ++state) {
      const std::uint32_t row = state / args.heads;
      if (!visible_keys(args, row, split).meets_page(key)) continue;
      const float* q = args.query + row * args.stride + std::size_t{state % args.heads} * args.head_dim;
      score_page(w.page, q, args.head_dim, args.scale, w.scores + std::size_t{state} * kSplit + key);
    }
  }
  const std::size_t base = std::size_t{split} * states;
  for (std::uint32_t state = 0; state < states; ++state) {
    const KeyRange visible = visible_keys(args, state / args.heads, split);
    if (visible.empty()) continue;
    w.m[base + state] = soften(w.scores + std::size_t{state} * kSplit, visible, &w.l[base + state]);
    float* o = w.o + (base + state) * args.head_dim;
    std::fill(o, o + args.head_dim, 0.0F);
  }
  for (std::uint32_t key = least; key < most; key += kPageTokens) {
    load_values(page_at(args, split * kSplit + key) + args.value_offset, kPageTokens * args.head_dim, w.page);
    for (std::uint32_t state = 0; state < states; ++state) {
      const KeyRange visible = visible_keys(args, state / args.heads, split);
      if (!visible.meets_page(key)) continue;
      const std::uint32_t from = std::max(visible.begin, key) - key;
      const std::uint32_t to = std::min(visible.end - key, kPageTokens);
      add_values(w.page + std::size_t{from} * args.head_dim, w.scores + std::size_t{state} * kSplit + key + from,
                 to - from, args.head_dim, w.o + (base + state) * args.head_dim);
    }
  }
}

void merge(const AttentionArgs& args, const Workspace& w, std::uint32_t state) {
  const std::uint32_t states = args.rows * args.heads;
  const std::uint32_t row = state / args.heads;
  const std::uint32_t first = args.first_key(row) / kSplit;
  const std::uint32_t splits = (args.first_position + row) / kSplit + 1;
  float m = w.m[std::size_t{first} * states + state];
  for (std::uint32_t i = first + 1; i < splits; ++i) {
    const float mi = w.m[std::size_t{i} * states + state];
    m = mi > m ? mi : m;
  }
  float* total = w.page;  // free by now
  std::fill(total, total + args.head_dim, 0.0F);
  float l = 0.0F;
  for (std::uint32_t i = first; i < splits; ++i) {
    const std::size_t at = std::size_t{i} * states + state;
    const float weight = numerics::exp(w.m[at] - m);
    l = l + w.l[at] * weight;
    const __m256 lanes = _mm256_set1_ps(weight);
    for (std::uint32_t d = 0; d < args.head_dim; d += 8) {
      const __m256 term = _mm256_mul_ps(_mm256_loadu_ps(w.o + at * args.head_dim + d), lanes);
      _mm256_storeu_ps(total + d, _mm256_add_ps(_mm256_loadu_ps(total + d), term));
    }
  }
  const __m256 inverse = _mm256_set1_ps(numerics::rcp(l));
  float* out = args.out + row * args.stride + std::size_t{state % args.heads} * args.head_dim;
  for (std::uint32_t d = 0; d < args.head_dim; d += 8) {
    _mm256_storeu_ps(out + d, store_lanes(_mm256_mul_ps(_mm256_loadu_ps(total + d), inverse)));
  }
}

}  // namespace

void attention(const AttentionArgs& args) {
  const std::uint32_t states = args.rows * args.heads;
  const std::uint32_t splits = (args.first_position + args.rows - 1) / kSplit + 1;
  const Workspace w = lay_out(args, states, splits);
  for (std::uint32_t split = args.first_key(0) / kSplit; split < splits; ++split) attend_split(args, w, split);
  for (std::uint32_t state = 0; state < states; ++state) merge(args, w, state);
}

}  // namespace orch::worker::cpu::avx2
