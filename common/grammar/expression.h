// Regular expressions and the bodies of grammar rules as one kind of tree, and its way into a network.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "common/grammar/code_points.h"
#include "common/grammar/network.h"

namespace orch::grammar {

inline constexpr std::uint32_t kUnbounded = 0xFFFF'FFFF;

enum class ExpressionKind : std::uint8_t {
  sequence,  // of `parts`; without parts: the empty text
  choice,    // one of `parts`
  set,       // one code point of `set`
  call,      // of `rule`
  repeat,    // parts[0], `min` to `max` times
};

struct Expression {
  ExpressionKind kind = ExpressionKind::sequence;
  std::vector<Expression> parts;
  CodePointSet set;
  RuleId rule = 0;
  std::uint32_t min = 0;
  std::uint32_t max = 0;
};

// Adds expressions to a network. What is used often is made once, as a rule: sets beyond ASCII, and what a count
// repeats.
class ExpressionWriter {
 public:
  explicit ExpressionWriter(Network& network) : network_(network) {}

  void add(StateId from, const Expression& expression, Spelling spelling, StateId to);
  void add_set(StateId from, const CodePointSet& set, Spelling spelling, StateId to);
  // `rule`, `min` to `max` times; kUnbounded: no maximum.
  void add_repeated(StateId from, RuleId rule, std::uint32_t min, std::uint32_t max, StateId to);

 private:
  RuleId rule_of(const CodePointSet& set, Spelling spelling);

  Network& network_;
  std::map<std::pair<CodePointSet, Spelling>, RuleId> sets_;
};

}  // namespace orch::grammar
