// Reads a text byte by byte and knows, after each, what may follow: a pushdown automaton whose states are made when
// they are first reached and kept, so that reading again is a table look-up.
//
// A state is the list of all readings of the text so far: (state of the network, stack of states to return to). From
// every state that is not dead some way leads to an accepted text: readings that cannot end are dropped, and so are
// those beyond the limits, of which the first ones stay. What is accepted then is part of the language, never more.
//
// A state follows from the bytes alone, never from what was kept: forgetting changes no answer. Threads: one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"
#include "common/grammar/analysis.h"
#include "common/grammar/grammar_error.h"
#include "common/grammar/limits.h"
#include "common/grammar/network.h"
#include "common/grammar/packed_network.h"

namespace orch::grammar {

class Automaton {
 public:
  using State = std::uint32_t;
  static constexpr State kDead = 0;

  // `usable`: bytes that can be written one at a time; no other byte is ever read.
  static Result<Automaton, GrammarError> create(const Network& network, const ByteSet& usable);

  State start();
  State step(State state, std::uint8_t byte) { return step_counted(state, byte).state; }
  // With what it costs to find the step for the first time, whether or not this was the first time.
  struct Step {
    State state = kDead;
    std::uint32_t cost = 0;
  };
  Step step_counted(State state, std::uint8_t byte) {
    const Step& known = kept_[state].next[class_of_[byte]];
    return known.state != kUnknown ? known : make_step(state, byte);
  }
  State read(State state, std::string_view text);

  bool accepts(State state) const { return kept_[state].accepts; }
  // A byte may follow.
  bool continues(State state) const { return !kept_[state].readings.empty(); }
  // Bytes of the shortest end of the text, 0 where it is accepted; kNever when dead.
  std::uint32_t bytes_to_end(State state) const { return kept_[state].bytes_to_end; }

  std::size_t states_kept() const { return kept_.size(); }
  // Bytes of the states and of what making them took, at most; what creating took is in compiled_bytes().
  std::size_t state_bytes() const;
  std::size_t compiled_bytes() const;
  // More states were made than the limit wants, beside those of the last keep_only(): forget, when it is convenient.
  bool is_full() const { return is_full_; }
  // Forgets all states but these, and writes their new names in their places.
  void keep_only(std::span<State> states);
  // All states but kDead become invalid; a state is made again by reading its text.
  void forget();
  std::uint64_t times_forgotten() const { return times_forgotten_; }

 private:
  using StackId = std::uint32_t;
  static constexpr std::uint32_t kUnknown = 0xFFFF'FFFF;
  static constexpr StackId kEmptyStack = 0;

  struct StackCell {
    StateId back = 0;
    StackId below = 0;
    std::uint32_t depth = 0;
    std::uint32_t bytes_to_end = 0;  // of the shortest end behind the return
  };
  struct Reading {
    StateId state = 0;
    StackId stack = 0;
    auto operator<=>(const Reading&) const = default;
  };
  struct Kept {
    std::vector<Reading> readings;  // those that read a byte next
    std::unique_ptr<Step[]> next;   // one per class; state kUnknown: not looked for yet
    bool accepts = false;
    std::uint32_t bytes_to_end = kNever;
  };
  // Everything reachable without reading a byte, while it is collected.
  struct Closure {
    std::vector<Reading> open;
    std::vector<Reading> seen;  // a hash table with open addressing; index of `stamp` says whether a cell is used
    std::vector<std::uint32_t> stamps;
    std::uint32_t stamp = 0;
    std::size_t used = 0;
    std::vector<Reading> kept;
    bool accepts = false;
    std::uint32_t steps = 0;
  };

  Automaton(PackedNetwork network, Analysis analysis, const ByteSet& usable);
  void split_bytes();
  Step make_step(State state, std::uint8_t byte);
  void begin_closure();
  bool first_seen(const Reading& reading);
  void close_over(const Reading& from);
  void expand(const Reading& reading);
  State keep_closure();
  StackId push(StateId back, StackId below);
  StackId intern(StateId back, StackId below);
  std::uint64_t hash_of(const std::vector<Reading>& readings, bool accepts) const;
  bool can_end(StateId state, StackId stack) const;
  std::uint32_t bytes_to_end(const Reading& reading) const;

  PackedNetwork network_;
  Analysis analysis_;
  ByteSet usable_;
  std::array<std::uint16_t, 256> class_of_{};  // bytes that no edge tells apart; class 0: never read
  std::size_t classes_ = 1;
  std::vector<StackCell> stacks_;
  std::unordered_map<std::uint64_t, StackId> stack_ids_;
  std::vector<Kept> kept_;
  std::unordered_multimap<std::uint64_t, State> ids_;  // by hash_of()
  std::size_t readings_kept_ = 0;
  std::size_t needed_bytes_ = 0;
  bool is_full_ = false;
  std::uint64_t times_forgotten_ = 0;
  State start_ = kUnknown;
  Closure closure_;
};

}  // namespace orch::grammar
