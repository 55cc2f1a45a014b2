#include "common/grammar/expression.h"

namespace orch::grammar {

RuleId ExpressionWriter::rule_of(const CodePointSet& set, Spelling spelling) {
  if (const auto found = sets_.find({set, spelling}); found != sets_.end()) return found->second;
  const RuleId rule = network_.add_rule();
  sets_.emplace(std::pair{set, spelling}, rule);
  add_code_point(network_, network_.rule(rule).entry, set, spelling, network_.rule(rule).exit);
  return rule;
}

void ExpressionWriter::add_set(StateId from, const CodePointSet& set, Spelling spelling, StateId to) {
  // One byte of ASCII that needs no escape is cheaper as an edge of its own.
  const bool is_small = !set.empty() && set.ranges().size() <= 4 && set.ranges().back().high < 0x80 &&
                        (spelling == Spelling::plain || set.minus(json_unescaped()).empty());
  if (is_small) return add_code_point(network_, from, set, spelling, to);
  network_.add_call(from, rule_of(set, spelling), to);
}

void ExpressionWriter::add_repeated(StateId from, RuleId rule, std::uint32_t min, std::uint32_t max, StateId to) {
  StateId at = from;
  for (std::uint32_t i = 0; i < min && !network_.over_limit(); ++i) {
    const StateId next = network_.add_state();
    network_.add_call(at, rule, next);
    at = next;
  }
  if (max == kUnbounded) {
    const StateId loop = network_.add_state();
    network_.add_empty(at, loop);
    network_.add_call(loop, rule, loop);
    return network_.add_empty(loop, to);
  }
  for (std::uint32_t i = min; i < max && !network_.over_limit(); ++i) {
    network_.add_empty(at, to);
    const StateId next = network_.add_state();
    network_.add_call(at, rule, next);
    at = next;
  }
  network_.add_empty(at, to);
}

void ExpressionWriter::add(StateId from, const Expression& expression, Spelling spelling, StateId to) {
  if (network_.over_limit()) return;
  switch (expression.kind) {
    case ExpressionKind::sequence: {
      for (std::size_t i = 0; i + 1 < expression.parts.size(); ++i) {
        const StateId next = network_.add_state();
        add(from, expression.parts[i], spelling, next);
        from = next;
      }
      if (expression.parts.empty()) return network_.add_empty(from, to);
      return add(from, expression.parts.back(), spelling, to);
    }
    case ExpressionKind::choice:
      for (const Expression& part : expression.parts) add(from, part, spelling, to);
      return;
    case ExpressionKind::set:
      return add_set(from, expression.set, spelling, to);
    case ExpressionKind::call:
      return network_.add_call(from, expression.rule, to);
    case ExpressionKind::repeat: {
      const Expression& part = expression.parts.front();
      if (expression.max == 0) return network_.add_empty(from, to);
      if (expression.min <= 1 && expression.max == kUnbounded) {  // * and +: a loop around one copy
        const StateId head = network_.add_state();
        const StateId tail = network_.add_state();
        network_.add_empty(from, head);
        add(head, part, spelling, tail);
        network_.add_empty(tail, head);
        network_.add_empty(expression.min == 0 ? head : tail, to);
        return;
      }
      if (expression.max == 1) {  // ?
        network_.add_empty(from, to);
        return add(from, part, spelling, to);
      }
      const RuleId rule = network_.add_rule();
      add(network_.rule(rule).entry, part, spelling, network_.rule(rule).exit);
      return add_repeated(from, rule, expression.min, expression.max, to);
    }
  }
}

}  // namespace orch::grammar
