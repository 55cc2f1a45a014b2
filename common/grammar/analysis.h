// What is true of every state of a network before anything runs: which can still end, how deep the calls to its rule's
// end must nest, and how many bytes the shortest way there has. A network whose text can never end, or that calls a
// rule again without reading a byte, is refused here.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/result.h"
#include "common/grammar/grammar_error.h"
#include "common/grammar/network.h"

namespace orch::grammar {

inline constexpr std::uint32_t kNever = 0xFFFF'FFFF;

struct Analysis {
  // Per state, to the exit of its rule; kNever: there is no way.
  std::vector<std::uint32_t> depth;  // calls within calls that every way needs; a call that ends its rule needs none
  std::vector<std::uint32_t> bytes;  // of the shortest way
  // Per state: nothing is read between it and the exit of its rule, so that a call leading here need not come back.
  std::vector<bool> is_end;
  std::vector<bool> is_exit;
};

// `usable`: bytes that can be written. An edge that reads none of them is as if it were not there.
Result<Analysis, GrammarError> analyse(const Network& network, const ByteSet& usable);

}  // namespace orch::grammar
