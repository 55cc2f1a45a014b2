// The seam between the sampler and whatever constrains an output (a grammar, a schema): which tokens may come next.
// The sampler asks before every draw, at the place "mask" in the order of OC-NUM-1402: behind penalties and bias,
// before the temperature.
//
// Pure: the state is a function of the accepted tokens alone, so that a resumed or recomputed sequence, which accepts
// its tokens again, has the mask it would have had (M2). Threads: one, the engine's; a mask belongs to one sequence.
// What several sequences share (a compiled grammar, cached bit sets) is const and owned by shared pointers inside.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace orch::worker {

class TokenMask {
 public:
  virtual ~TokenMask() = default;

  // Bit (id % 32) of word (id / 32): token `id` may be drawn next. Exactly (vocabulary + 31) / 32 words, vocabulary
  // being the tokenizer's size; bits beyond it are 0. An empty span: every token may. Tokens that end the generation
  // (Tokenizer::ends_generation) are tokens like others: their bit is set where the output is complete. Valid until the
  // next call of accept(). Not const: a mask may compute its bits late and keep them.
  virtual std::span<const std::uint32_t> allowed() = 0;

  // Token `id` follows: drawn, resumed or replayed. Never called for a token that ends the generation. False: the token
  // cannot follow, which only ids that come from outside can do (resume ids); the mask is unusable from then on.
  virtual bool accept(std::uint32_t id) = 0;

  // A mask in the same state, for another sequence.
  virtual std::unique_ptr<TokenMask> clone() const = 0;
};

}  // namespace orch::worker
