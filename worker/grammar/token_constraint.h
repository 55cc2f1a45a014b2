// A compiled constraint over one vocabulary: which tokens may follow a text (OC-GRAMMAR-1020 to 1024). Shared by all
// sequences that run under the same constraint; masks are made when first asked for and kept, the least recently used
// dropped first. What it makes is bounded in bytes, here for itself and by its WorkBudget together with others
// (OC-GRAMMAR-1035). Threads: one, the engine's; it may be made and end on another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "common/grammar/automaton.h"
#include "common/grammar/compile.h"
#include "worker/grammar/vocabulary_trie.h"
#include "worker/grammar/work_budget.h"

namespace orch::worker {

struct TokenBits {
  std::vector<std::uint32_t> words;  // as TokenMask::allowed()
  std::uint32_t count = 0;
  // Bytes to the end of the text behind the allowed token that leaves most of them.
  std::uint32_t farthest_end = 0;
  bool is_cut = false;  // kMaskStepsMax was reached: tokens of more than one byte may be missing
};

// Of one constraint's states and masks: what WorkBudget keeps free for the one that works.
inline constexpr std::size_t kWorkShareMax =
    grammar::kAutomatonBytesMax + grammar::kMasksBytesMax + grammar::kStepBytesMax;

class TokenConstraint : public std::enable_shared_from_this<TokenConstraint> {
 public:
  // Error: the constraint is refused, or this vocabulary cannot write any text of it or cannot end one.
  // `budget`: null when no other constraint is beside it.
  static Result<std::shared_ptr<TokenConstraint>, grammar::GrammarError> create(
      const grammar::Constraint& constraint, std::shared_ptr<const VocabularyTrie> vocabulary,
      std::shared_ptr<WorkBudget> budget = nullptr);

  // Where a sequence is. Invalid once epoch() has changed: then it is found again from the text.
  using State = grammar::Automaton::State;
  std::uint64_t epoch() const { return automaton_.times_forgotten(); }
  // May change the epoch, both.
  State state_of(std::string_view text);
  State step(State state, TokenId token);
  bool accepts(State state) const { return automaton_.accepts(state); }
  std::uint32_t bytes_to_end(State state) const { return automaton_.bytes_to_end(state); }
  const VocabularyTrie& vocabulary() const { return *vocabulary_; }

  // Tokens that may follow a text that has led to `state`. May change the epoch.
  std::shared_ptr<const TokenBits> bits(State state);
  // Those of them behind which the text can still end within `bytes_left` bytes. May be none. May change the epoch.
  std::shared_ptr<const TokenBits> bits_near_end(State state, std::uint32_t bytes_left);

  // Bytes without states and masks, and of these; at most.
  std::size_t compiled_bytes() const { return sizeof(TokenConstraint) + automaton_.compiled_bytes(); }
  std::size_t work_bytes() const { return automaton_.state_bytes() + masks_bytes(); }
  std::size_t masks_bytes() const { return masks_.size() * mask_bytes(); }
  // Forgets states and masks. Changes the epoch.
  void drop_work();

  std::uint64_t masks_made() const { return masks_made_; }

 private:
  struct Cached {
    std::shared_ptr<const TokenBits> bits;
    std::list<State>::iterator use;
  };
  class Walk;
  class Working;

  TokenConstraint(grammar::Automaton automaton, std::shared_ptr<const VocabularyTrie> vocabulary,
                  std::shared_ptr<WorkBudget> budget)
      : automaton_(std::move(automaton)), vocabulary_(std::move(vocabulary)), budget_(std::move(budget)) {}
  State read(State state, std::string_view bytes);
  std::shared_ptr<const TokenBits> make_bits(State& state, std::uint32_t bytes_left);
  void drop_old_masks();
  void keep_mask(State state, std::shared_ptr<const TokenBits> bits);
  std::size_t mask_bytes() const;

  grammar::Automaton automaton_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;
  std::shared_ptr<WorkBudget> budget_;
  std::optional<WorkBudget::Place> place_;   // none: has no work
  std::unordered_map<State, Cached> masks_;  // of masks_epoch_
  std::list<State> uses_;                    // latest first
  std::uint64_t masks_epoch_ = 0;
  std::uint64_t masks_made_ = 0;
};

}  // namespace orch::worker
