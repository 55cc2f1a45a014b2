// A network as an automaton reads it: the edges of all states one behind the other, without those on no way to an end.
// A tenth of what building took, since compiled constraints are kept. Immutable.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "common/grammar/analysis.h"
#include "common/grammar/network.h"

namespace orch::grammar {

class PackedNetwork {
 public:
  struct Call {
    StateId entry = 0;   // of the called rule
    StateId target = 0;  // where reading goes on behind it
  };

  PackedNetwork(const Network& network, const Analysis& analysis, const ByteSet& usable);

  StateId start() const { return start_; }
  std::span<const StateId> empties(StateId state) const { return row(empties_, state, &Begin::empties); }
  std::span<const ByteEdge> bytes(StateId state) const { return row(bytes_, state, &Begin::bytes); }
  std::span<const Call> calls(StateId state) const { return row(calls_, state, &Begin::calls); }
  const std::vector<ByteEdge>& all_bytes() const { return bytes_; }
  std::size_t byte_size() const;

 private:
  // Where the edges of a state begin; one more than there are states, which closes the last one's.
  struct Begin {
    std::uint32_t empties = 0;
    std::uint32_t bytes = 0;
    std::uint32_t calls = 0;
  };
  template <typename Edge>
  std::span<const Edge> row(const std::vector<Edge>& edges, StateId state, std::uint32_t Begin::* part) const {
    const std::uint32_t from = begins_[state].*part;
    return {edges.data() + from, begins_[std::size_t{state} + 1].*part - from};
  }

  StateId start_ = 0;
  std::vector<Begin> begins_;
  std::vector<StateId> empties_;
  std::vector<ByteEdge> bytes_;
  std::vector<Call> calls_;
};

}  // namespace orch::grammar
