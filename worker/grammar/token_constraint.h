// A compiled constraint over one vocabulary: which tokens may follow a text (OC-GRAMMAR-1020 to 1024). Shared by all
// sequences that run under the same constraint; masks are made when first asked for and kept, the least recently used
// dropped first. Threads: one, the engine's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "common/grammar/automaton.h"
#include "common/grammar/compile.h"
#include "worker/grammar/vocabulary_trie.h"

namespace orch::worker {

struct TokenBits {
  std::vector<std::uint32_t> words;  // as TokenMask::allowed()
  std::uint32_t count = 0;
  // Bytes to the end of the text behind the allowed token that leaves most of them.
  std::uint32_t farthest_end = 0;
  bool is_cut = false;  // kMaskStepsMax was reached: tokens of more than one byte may be missing
};

class TokenConstraint {
 public:
  // Error: the constraint is refused, or this vocabulary cannot write any text of it or cannot end one.
  static Result<std::shared_ptr<TokenConstraint>, grammar::GrammarError> create(
      const grammar::Constraint& constraint, std::shared_ptr<const VocabularyTrie> vocabulary);

  // Where a sequence is. Invalid once epoch() has changed: then it is found again from the text.
  using State = grammar::Automaton::State;
  std::uint64_t epoch() const { return automaton_.times_forgotten(); }
  State state_of(std::string_view text) { return automaton_.read(automaton_.start(), text); }
  State step(State state, TokenId token) { return automaton_.read(state, vocabulary_->bytes_of(token)); }
  bool accepts(State state) const { return automaton_.accepts(state); }
  std::uint32_t bytes_to_end(State state) const { return automaton_.bytes_to_end(state); }
  const VocabularyTrie& vocabulary() const { return *vocabulary_; }

  // Tokens that may follow `text`, which has led to `state`. May change the epoch.
  std::shared_ptr<const TokenBits> bits(State state, std::string_view text);
  // Those of them behind which the text can still end within `bytes_left` bytes. May be none. May change the epoch.
  std::shared_ptr<const TokenBits> bits_near_end(State state, std::string_view text, std::uint32_t bytes_left);

  std::uint64_t masks_made() const { return masks_made_; }

 private:
  struct Cached {
    std::shared_ptr<const TokenBits> bits;
    std::list<State>::iterator use;
  };
  class Walk;

  TokenConstraint(grammar::Automaton automaton, std::shared_ptr<const VocabularyTrie> vocabulary)
      : automaton_(std::move(automaton)), vocabulary_(std::move(vocabulary)) {}
  std::shared_ptr<const TokenBits> make_bits(State& state, std::string_view text, std::uint32_t bytes_left);
  void drop_old_masks();

  grammar::Automaton automaton_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::unordered_map<State, Cached> masks_;  // of masks_epoch_
  std::list<State> uses_;                    // latest first
  std::uint64_t masks_epoch_ = 0;
  std::uint64_t masks_made_ = 0;
};

}  // namespace orch::worker
