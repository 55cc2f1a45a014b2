#include "common/grammar/network.h"

#include <cstddef>

#include "common/grammar/limits.h"

namespace orch::grammar {

bool reads_any(const ByteEdge& edge, const ByteSet& bytes) {
  for (std::uint32_t byte = edge.low; byte <= edge.high; ++byte) {
    if (bytes[byte]) return true;
  }
  return false;
}

RuleId Network::add_rule() {
  if (rules_.size() >= kRulesMax) {
    over_limit_ = true;
    return static_cast<RuleId>(rules_.size() - 1);
  }
  const StateId entry = add_state();
  rules_.push_back({entry, add_state()});
  return static_cast<RuleId>(rules_.size() - 1);
}

StateId Network::add_state() {
  if (states_.size() >= kStatesMax) {
    over_limit_ = true;
    return static_cast<StateId>(states_.size() - 1);
  }
  states_.emplace_back();
  return static_cast<StateId>(states_.size() - 1);
}

bool Network::count_edge() {
  if (edges_ >= kEdgesMax) over_limit_ = true;
  if (over_limit_) return false;
  ++edges_;
  return true;
}

void Network::add_empty(StateId from, StateId to) {
  if (from != to && count_edge()) states_[from].empties.push_back(to);
}

void Network::add_bytes(StateId from, std::uint8_t low, std::uint8_t high, StateId to) {
  if (count_edge()) states_[from].bytes.push_back({low, high, to});
}

void Network::add_call(StateId from, RuleId rule, StateId to) {
  if (count_edge()) states_[from].calls.push_back({rule, to});
}

void Network::add_text(StateId from, std::string_view text, StateId to) {
  if (text.empty()) return add_empty(from, to);
  for (std::size_t i = 0; i < text.size() && !over_limit_; ++i) {
    const StateId next = i + 1 == text.size() ? to : add_state();
    const auto byte = static_cast<std::uint8_t>(text[i]);
    add_bytes(from, byte, byte, next);
    from = next;
  }
}

}  // namespace orch::grammar
