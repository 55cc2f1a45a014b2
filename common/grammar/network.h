// A grammar over bytes as a recursive transition network: rules of states, edges that read a byte, edges that call a
// rule, and edges that read nothing. Rule 0 is where a text begins. A value once built; building it is bounded by the
// limits, and what is added beyond them is left out and remembered in over_limit().
#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <vector>

namespace orch::grammar {

using StateId = std::uint32_t;
using RuleId = std::uint32_t;

using ByteSet = std::bitset<256>;

struct ByteEdge {
  std::uint8_t low = 0;
  std::uint8_t high = 0;
  StateId target = 0;
};

struct CallEdge {
  RuleId rule = 0;
  StateId target = 0;  // where reading goes on behind the called rule
};

struct NetworkState {
  std::vector<StateId> empties;
  std::vector<ByteEdge> bytes;
  std::vector<CallEdge> calls;
};

struct Rule {
  StateId entry = 0;
  StateId exit = 0;
};

bool reads_any(const ByteEdge& edge, const ByteSet& bytes);

class Network {
 public:
  // With an entry and an exit state.
  RuleId add_rule();
  StateId add_state();
  void add_empty(StateId from, StateId to);
  void add_bytes(StateId from, std::uint8_t low, std::uint8_t high, StateId to);
  void add_call(StateId from, RuleId rule, StateId to);
  // The bytes one behind the other; an empty text reads nothing.
  void add_text(StateId from, std::string_view text, StateId to);

  bool over_limit() const { return over_limit_; }
  const Rule& rule(RuleId id) const { return rules_[id]; }
  const std::vector<Rule>& rules() const { return rules_; }
  const std::vector<NetworkState>& states() const { return states_; }
  const NetworkState& state(StateId id) const { return states_[id]; }

 private:
  bool count_edge();

  std::vector<Rule> rules_;
  std::vector<NetworkState> states_;
  std::uint32_t edges_ = 0;
  bool over_limit_ = false;
};

}  // namespace orch::grammar
