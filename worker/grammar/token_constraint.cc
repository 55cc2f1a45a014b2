#include "worker/grammar/token_constraint.h"

#include <algorithm>
#include <utility>

#include "common/grammar/limits.h"

namespace orch::worker {

using grammar::Automaton;
using grammar::GrammarError;

// While a constraint makes states or masks: before, others have left room for them; behind, they are counted.
class TokenConstraint::Working {
 public:
  explicit Working(TokenConstraint& constraint) : constraint_(constraint) {
    WorkBudget* budget = constraint_.budget_.get();
    if (budget == nullptr) return;
    if (!constraint_.place_) constraint_.place_ = budget->add(constraint_.weak_from_this());
    budget->begin(*constraint_.place_);
  }
  ~Working() {
    if (constraint_.budget_ != nullptr) constraint_.budget_->end(*constraint_.place_, constraint_.work_bytes());
  }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

 private:
  TokenConstraint& constraint_;
};

Result<std::shared_ptr<TokenConstraint>, GrammarError> TokenConstraint::create(
    const grammar::Constraint& constraint, std::shared_ptr<const VocabularyTrie> vocabulary,
    std::shared_ptr<WorkBudget> budget) {
  if (vocabulary->end_tokens().empty()) {
    return Err{GrammarError{"", "this model has no token that ends a text, which a constraint needs"}};
  }
  ORCH_TRY(network, grammar::compile(constraint.kind, constraint.text));
  auto automaton = Automaton::create(network, vocabulary->single_bytes());
  if (!automaton.ok()) return Err{automaton.error()};
  return std::shared_ptr<TokenConstraint>(
      new TokenConstraint(std::move(automaton).value(), std::move(vocabulary), std::move(budget)));
}

TokenConstraint::State TokenConstraint::read(State state, std::string_view bytes) {
  for (const char byte : bytes) {
    if (state == Automaton::kDead) break;
    if (automaton_.is_full()) automaton_.keep_only({&state, 1});
    state = automaton_.step(state, static_cast<std::uint8_t>(byte));
  }
  drop_old_masks();
  return state;
}

TokenConstraint::State TokenConstraint::state_of(std::string_view text) {
  const Working working(*this);
  return read(automaton_.start(), text);
}

TokenConstraint::State TokenConstraint::step(State state, TokenId token) {
  const Working working(*this);
  return read(state, vocabulary_->bytes_of(token));
}

// The budget has let go of its place.
void TokenConstraint::drop_work() {
  place_.reset();
  automaton_.forget();
  drop_old_masks();
}

// One walk over the trie. Its cost is counted as if nothing were known yet, so that the same text always has the same
// bits; single bytes are looked at first, so that a walk that is cut short still leaves every way open.
class TokenConstraint::Walk {
 public:
  Walk(Automaton& automaton, const VocabularyTrie& vocabulary, std::uint32_t bytes_left)
      : automaton_(automaton), vocabulary_(vocabulary), bytes_left_(bytes_left) {
    out_.words.resize((vocabulary.vocabulary() + 31) / 32, 0);
    states_.resize(vocabulary.depth_max() + 1);
  }

  TokenBits run(Automaton::State& state) {
    states_[0] = state;
    const auto& nodes = vocabulary_.nodes();
    for (std::size_t i = 0; i < vocabulary_.size(); i = nodes[i].behind) {
      if (automaton_.is_full()) automaton_.keep_only(std::span(states_).first(1));
      visit(i);
    }
    std::size_t at = 0;
    while (at < vocabulary_.size()) {
      if (steps_ > grammar::kMaskStepsMax) {
        out_.is_cut = true;
        break;
      }
      if (automaton_.is_full()) automaton_.keep_only(std::span(states_).first(nodes[at].depth + std::size_t{1}));
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

  Automaton& automaton_;
  const VocabularyTrie& vocabulary_;
  std::uint32_t bytes_left_;
  TokenBits out_;
  std::vector<Automaton::State> states_;  // behind as many bytes of the way to the node
  std::uint64_t steps_ = 0;
};

std::shared_ptr<const TokenBits> TokenConstraint::make_bits(State& state, std::uint32_t bytes_left) {
  ++masks_made_;
  auto made = std::make_shared<const TokenBits>(Walk(automaton_, *vocabulary_, bytes_left).run(state));
  drop_old_masks();  // the walk may have forgotten the states
  return made;
}

void TokenConstraint::drop_old_masks() {
  if (masks_epoch_ == epoch()) return;
  decltype(masks_)().swap(masks_);
  uses_.clear();
  masks_epoch_ = epoch();
}

// With what the allocator, the table and the list add.
std::size_t TokenConstraint::mask_bytes() const {
  constexpr std::size_t kAround = 256;
  return (vocabulary_->vocabulary() + 31) / 32 * sizeof(std::uint32_t) + kAround;
}

void TokenConstraint::keep_mask(State state, std::shared_ptr<const TokenBits> bits) {
  while (!masks_.empty() && (masks_.size() + 1) * mask_bytes() > grammar::kMasksBytesMax) {
    masks_.erase(uses_.back());
    uses_.pop_back();
  }
  uses_.push_front(state);
  masks_[state] = {std::move(bits), uses_.begin()};
}

std::shared_ptr<const TokenBits> TokenConstraint::bits(State state) {
  const Working working(*this);
  if (const auto found = masks_.find(state); found != masks_.end()) {
    uses_.splice(uses_.begin(), uses_, found->second.use);
    return found->second.bits;
  }
  auto made = make_bits(state, grammar::kNever);
  keep_mask(state, made);
  return made;
}

std::shared_ptr<const TokenBits> TokenConstraint::bits_near_end(State state, std::uint32_t bytes_left) {
  const Working working(*this);
  return make_bits(state, bytes_left);
}

}  // namespace orch::worker
