#include "common/grammar/gbnf.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/grammar/expression.h"
#include "common/grammar/text_reader.h"

namespace orch::grammar {

namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : in_(text), writer_(network_) { rule_of("root", 0); }

  Result<Network, GrammarError> parse() {
    skip_blanks(true);
    while (!in_.failed() && !in_.done()) rule();
    for (const auto& [name, entry] : names_) {
      if (in_.failed() || entry.defined) continue;
      in_.fail_at(entry.position, "the rule " + name + " is not defined");
    }
    if (in_.failed()) return Err{in_.error()};
    return std::move(network_);
  }

 private:
  struct Name {
    RuleId rule = 0;
    std::size_t position = 0;  // of its first mention
    bool defined = false;
  };

  Name& rule_of(const std::string& name, std::size_t position) {
    const auto [found, is_new] = names_.try_emplace(name, Name{0, position, false});
    if (is_new) found->second.rule = network_.add_rule();
    return found->second;
  }

  void skip_blanks(bool lines) {
    for (;;) {
      const char c = in_.peek();
      if (in_.done()) return;
      if (c == '#') {
        while (!in_.done() && in_.peek() != '\n' && in_.peek() != '\r') in_.skip(1);
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        in_.skip(1);
      } else {
        return;
      }
    }
  }

  std::string name() {
    std::string out;
    while (is_name_character(in_.peek()) && out.size() < kNameBytesMax) {
      out.push_back(in_.peek());
      in_.skip(1);
    }
    if (out.empty()) in_.fail("the name of a rule belongs here");
    if (is_name_character(in_.peek())) in_.fail("a name has at most " + std::to_string(kNameBytesMax) + " bytes");
    return out;
  }

  void rule() {
    const std::size_t begin = in_.position();
    const std::string own = name();
    skip_blanks(false);
    if (!in_.failed() && !in_.take("::=")) in_.fail("::= belongs behind the name of a rule");
    if (in_.failed()) return;
    Name& entry = rule_of(own, begin);
    if (entry.defined) return in_.fail_at(begin, "the rule " + own + " is defined twice");
    entry.defined = true;
    const Rule states = network_.rule(entry.rule);
    skip_blanks(true);
    const Expression body = choice(false);
    if (in_.failed()) return;
    if (!in_.done() && in_.peek() != '\n' && in_.peek() != '\r') return in_.fail("this belongs to no rule");
    skip_blanks(true);
    writer_.add(states.entry, body, Spelling::plain, states.exit);
    if (network_.over_limit()) in_.fail_at(begin, "the grammar is too large from the rule " + own + " on");
  }

  Expression choice(bool in_group) {
    Expression out;
    out.kind = ExpressionKind::choice;
    do {
      skip_blanks(true);
      out.parts.push_back(sequence(in_group));
    } while (!in_.failed() && in_.take("|"));
    return out;
  }

  bool starts_symbol() const {
    const char c = in_.peek();
    return !in_.done() && (c == '"' || c == '[' || c == '(' || c == '.' || c == '<' || is_name_character(c));
  }

  Expression sequence(bool in_group) {
    Expression out;
    while (!in_.failed() && starts_symbol()) {
      if (!in_.count_expression()) break;
      out.parts.push_back(quantified(symbol()));
      skip_blanks(in_group);
    }
    return out;
  }

  Expression quantified(Expression part) {
    for (;;) {  // as llama.cpp does, a quantifier may follow another
      const std::size_t mark = in_.position();
      skip_blanks(false);
      if (in_.failed() || !in_.count_expression()) return part;
      if (in_.take("*")) {
        part = repeated(std::move(part), 0, kUnbounded);
      } else if (in_.take("+")) {
        part = repeated(std::move(part), 1, kUnbounded);
      } else if (in_.take("?")) {
        part = repeated(std::move(part), 0, 1);
      } else if (in_.take("{")) {
        const auto [min, max] = in_.counts();
        part = repeated(std::move(part), min, max);
      } else {
        in_.move_to(mark);
        return part;
      }
      if (++stacked_ > kExpressionDepthMax) in_.fail("too many quantifiers behind each other");
    }
  }

  Expression symbol() {
    stacked_ = 0;
    switch (in_.peek()) {
      case '"':
        in_.skip(1);
        return literal();
      case '[':
        in_.skip(1);
        return one_of(set());
      case '.':
        in_.skip(1);
        return one_of(CodePointSet{{0, kCodePointMax}});
      case '<':
        in_.fail("tokens by number or name are not supported");
        return {};
      case '(': {
        in_.skip(1);
        if (!in_.enter()) return {};
        Expression out = choice(true);
        in_.leave();
        skip_blanks(true);
        if (!in_.failed() && !in_.take(")")) in_.fail("the group is not closed");
        stacked_ = 0;
        return out;
      }
      default: {
        const std::size_t begin = in_.position();
        Expression out;
        out.kind = ExpressionKind::call;
        const std::string called = name();
        if (!in_.failed()) out.rule = rule_of(called, begin).rule;
        return out;
      }
    }
  }

  std::uint32_t character() {
    if (!in_.take("\\")) return in_.code_point();
    const std::size_t begin = in_.position();
    const std::uint32_t c = in_.code_point();
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        return in_.hexadecimal(2);
      case 'u':
        return in_.hexadecimal(4);
      case 'U':
        return in_.hexadecimal(8);
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return c;
      default:
        in_.fail_at(begin, "this escape is not supported");
        return 0;
    }
  }

  Expression literal() {
    const std::size_t begin = in_.position();
    Expression out;
    while (!in_.failed() && !in_.take("\"")) {
      if (in_.done() || in_.peek() == '\n') in_.fail_at(begin, "the literal is not closed");
      if (in_.failed() || !in_.count_expression()) break;
      const std::uint32_t c = character();
      out.parts.push_back(one_of({{c, c}}));
    }
    return out;
  }

  CodePointSet set() {
    const std::size_t begin = in_.position();
    const bool negated = in_.take("^");
    std::vector<CodePointRange> out;
    while (!in_.failed() && !in_.take("]")) {
      if (in_.done()) in_.fail_at(begin, "the set is not closed");
      if (in_.failed() || !in_.count_expression()) break;
      const std::size_t item = in_.position();
      const std::uint32_t low = character();
      if (in_.peek() != '-' || in_.at("-]")) {
        out.push_back({low, low});
        continue;
      }
      in_.skip(1);
      const std::uint32_t high = character();
      if (!in_.failed() && high < low) in_.fail_at(item, "a range goes from one character to a higher one");
      out.push_back({low, high});
    }
    CodePointSet whole(std::move(out));
    return negated ? whole.complement() : whole;
  }

  static constexpr std::size_t kNameBytesMax = 128;

  TextReader in_;
  Network network_;
  ExpressionWriter writer_;
  std::map<std::string, Name> names_;
  std::size_t stacked_ = 0;
};

}  // namespace

Result<Network, GrammarError> parse_gbnf(std::string_view text) { return GbnfParser(text).parse(); }

}  // namespace orch::grammar
