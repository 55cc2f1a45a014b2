#include "worker/grammar/token_constraint.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/grammar/limits.h"

namespace orch::worker {

using grammar::Automaton;
using grammar::GrammarError;

Result<std::shared_ptr<TokenConstraint>, GrammarError> TokenConstraint::create(
    const grammar::Constraint& constraint, std::shared_ptr<const VocabularyTrie> vocabulary) {
  if (vocabulary->end_tokens().empty()) {
    return Err{GrammarError{"", "this model has no token that ends a text, which a constraint needs"}};
  }
  ORCH_TRY(network, grammar::compile(constraint.kind, constraint.text));
  auto automaton = Automaton::create(std::move(network), vocabulary->single_bytes());
  if (!automaton.ok()) return Err{automaton.error()};
  return std::shared_ptr<TokenConstraint>(new TokenConstraint(std::move(automaton).value(), std::move(vocabulary)));
}

// One walk over the trie. Its cost is counted as if nothing were known yet, so that the same text always has the same
// bits; single bytes are looked at first, so that a walk that is cut short still leaves every way open.
class TokenConstraint::Walk {
 public:
  Walk(Automaton& automaton, const VocabularyTrie& vocabulary, std::string_view text, std::uint32_t bytes_left)
      : automaton_(automaton), vocabulary_(vocabulary), text_(text), bytes_left_(bytes_left) {
    out_.words.resize((vocabulary.vocabulary() + 31) / 32, 0);
    states_.resize(vocabulary.depth_max() + 1);
  }

  TokenBits run(Automaton::State& state) {
    states_[0] = state;
    const auto& nodes = vocabulary_.nodes();
    for (std::size_t i = 0; i < vocabulary_.size(); i = nodes[i].behind) visit(i);
    std::size_t at = 0;
    while (at < vocabulary_.size()) {
      if (steps_ > grammar::kMaskStepsMax) {
        out_.is_cut = true;
        break;
      }
      if (automaton_.is_full()) start_again(at);
      at = visit(at) ? at + 1 : nodes[at].behind;
    }
    if (automaton_.accepts(states_[0])) {
      for (const TokenId id : vocabulary_.end_tokens()) allow(id);
    }
    state = states_[0];
    return std::move(out_);
  }

 private:
  // False: nothing below the node can follow.
  bool visit(std::size_t at) {
    const VocabularyTrie::Node& node = vocabulary_.nodes()[at];
    const Automaton::Step step = automaton_.step_counted(states_[node.depth], node.byte);
    steps_ += step.cost;
    if (step.state == Automaton::kDead) return false;
    states_[node.depth + std::size_t{1}] = step.state;
    const std::uint32_t tokens_end = vocabulary_.nodes()[at + 1].tokens_begin;
    if (node.tokens_begin == tokens_end) return true;
    const std::uint32_t to_end = automaton_.bytes_to_end(step.state);
    if (to_end > bytes_left_) return true;
    out_.farthest_end = std::max(out_.farthest_end, to_end);
    for (std::uint32_t i = node.tokens_begin; i < tokens_end; ++i) allow(vocabulary_.tokens()[i]);
    return true;
  }

  void allow(TokenId id) {
    std::uint32_t& word = out_.words[id / 32];
    const std::uint32_t bit = 1U << (id % 32);
    if ((word & bit) == 0) ++out_.count;
    word |= bit;
  }

  // Forgets all states, then makes those on the way to the node again.
  void start_again(std::size_t at) {
    automaton_.forget();
    states_[0] = automaton_.read(automaton_.start(), text_);
    // The ancestors of a node stand before it, one for each smaller depth, the nearest last.
    std::string way(vocabulary_.nodes()[at].depth, '\0');
    for (std::size_t left = way.size(), i = at; left > 0;) {
      --i;
      if (vocabulary_.nodes()[i].depth + std::size_t{1} != left) continue;
      way[--left] = static_cast<char>(vocabulary_.nodes()[i].byte);
    }
    for (std::size_t depth = 0; depth < way.size(); ++depth) {
      states_[depth + 1] = automaton_.step(states_[depth], static_cast<std::uint8_t>(way[depth]));
    }
    automaton_.keep_these();
  }

  Automaton& automaton_;
  const VocabularyTrie& vocabulary_;
  std::string_view text_;
  std::uint32_t bytes_left_;
  TokenBits out_;
  std::vector<Automaton::State> states_;  // behind as many bytes of the way to the node
  std::uint64_t steps_ = 0;
};

std::shared_ptr<const TokenBits> TokenConstraint::make_bits(State& state, std::string_view text,
                                                            std::uint32_t bytes_left) {
  ++masks_made_;
  return std::make_shared<const TokenBits>(Walk(automaton_, *vocabulary_, text, bytes_left).run(state));
}

void TokenConstraint::drop_old_masks() {
  if (masks_epoch_ == epoch()) return;
  masks_.clear();
  uses_.clear();
  masks_epoch_ = epoch();
}

std::shared_ptr<const TokenBits> TokenConstraint::bits(State state, std::string_view text) {
  drop_old_masks();
  if (const auto found = masks_.find(state); found != masks_.end()) {
    uses_.splice(uses_.begin(), uses_, found->second.use);
    return found->second.bits;
  }
  auto made = make_bits(state, text, grammar::kNever);
  drop_old_masks();  // the walk may have forgotten the states
  uses_.push_front(state);
  masks_[state] = {made, uses_.begin()};
  if (masks_.size() > grammar::kMasksMax) {
    masks_.erase(uses_.back());
    uses_.pop_back();
  }
  return made;
}

std::shared_ptr<const TokenBits> TokenConstraint::bits_near_end(State state, std::string_view text,
                                                                std::uint32_t bytes_left) {
  return make_bits(state, text, bytes_left);
}

}  // namespace orch::worker
