#include "common/grammar/packed_network.h"

namespace orch::grammar {

// What is left of a reading's edges leads to an end, the depth of the stack apart.
PackedNetwork::PackedNetwork(const Network& network, const Analysis& analysis, const ByteSet& usable)
    : start_(network.rule(0).entry) {
  const auto is_dead = [&](StateId state) { return analysis.bytes[state] == kNever; };
  begins_.reserve(network.states().size() + 1);
  for (const NetworkState& state : network.states()) {
    begins_.push_back({static_cast<std::uint32_t>(empties_.size()), static_cast<std::uint32_t>(bytes_.size()),
                       static_cast<std::uint32_t>(calls_.size())});
    empties_.insert(empties_.end(), state.empties.begin(), state.empties.end());
    for (const ByteEdge& edge : state.bytes) {
      if (!is_dead(edge.target) && reads_any(edge, usable)) bytes_.push_back(edge);
    }
    for (const CallEdge& edge : state.calls) {
      const StateId entry = network.rule(edge.rule).entry;
      if (!is_dead(edge.target) && !is_dead(entry)) calls_.push_back({entry, edge.target});
    }
  }
  begins_.push_back({static_cast<std::uint32_t>(empties_.size()), static_cast<std::uint32_t>(bytes_.size()),
                     static_cast<std::uint32_t>(calls_.size())});
  empties_.shrink_to_fit();
  bytes_.shrink_to_fit();
  calls_.shrink_to_fit();
}

std::size_t PackedNetwork::byte_size() const {
  return begins_.capacity() * sizeof(Begin) + empties_.capacity() * sizeof(StateId) +
         bytes_.capacity() * sizeof(ByteEdge) + calls_.capacity() * sizeof(Call);
}

}  // namespace orch::grammar
