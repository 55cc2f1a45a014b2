#include "common/grammar/regex.h"

#include <optional>
#include <utility>

#include "common/grammar/text_reader.h"

namespace orch::grammar {

namespace {

const CodePointSet& digits() {
  static const CodePointSet set{{'0', '9'}};
  return set;
}
const CodePointSet& word_characters() {
  static const CodePointSet set{{'0', '9'}, {'A', 'Z'}, {'a', 'z'}, {'_', '_'}};
  return set;
}
const CodePointSet& ascii_blanks() {
  static const CodePointSet set{{'\t', '\r'}, {' ', ' '}};
  return set;
}
// ECMA-262's white space and line ends; \S must leave out all of them, \s may offer fewer.
const CodePointSet& all_blanks() {
  static const CodePointSet set{{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680},
                                {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  return set;
}
const CodePointSet& line_ends() {
  static const CodePointSet set{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
  return set;
}

constexpr std::string_view kSyntax = "^$\\.*+?()[]{}|/-";

class RegexParser {
 public:
  explicit RegexParser(std::string_view text) : in_(text) {}

  Result<std::vector<RegexAlternative>, GrammarError> parse() {
    std::vector<RegexAlternative> out;
    do {
      RegexAlternative alternative;
      alternative.from_start = in_.take("^");
      alternative.body = sequence();
      alternative.to_end = in_.take("$");
      if (!in_.failed() && !in_.done() && in_.peek() != '|') in_.fail(complaint());
      out.push_back(std::move(alternative));
    } while (!in_.failed() && in_.take("|"));
    if (in_.failed()) return Err{in_.error()};
    return out;
  }

 private:
  std::string complaint() const {
    if (in_.peek() == ')') return "this bracket closes no group";
    return "an anchor is supported at the very beginning and the very end only";
  }

  Expression sequence() {
    Expression out;
    while (!in_.failed() && !in_.done() && in_.peek() != '|' && in_.peek() != ')' && in_.peek() != '$') {
      if (in_.peek() == '^') in_.fail(complaint());
      if (in_.failed() || !in_.count_expression()) return out;
      out.parts.push_back(quantified(atom()));
    }
    return out;
  }

  Expression choice() {
    Expression out;
    out.kind = ExpressionKind::choice;
    do {
      out.parts.push_back(sequence());
    } while (!in_.failed() && in_.take("|"));
    if (in_.peek() == '$') in_.fail(complaint());
    return out;
  }

  Expression quantified(Expression part) {
    if (in_.failed() || in_.done()) return part;
    std::pair<std::uint32_t, std::uint32_t> counts;
    if (in_.take("*")) {
      counts = {0, kUnbounded};
    } else if (in_.take("+")) {
      counts = {1, kUnbounded};
    } else if (in_.take("?")) {
      counts = {0, 1};
    } else if (in_.take("{")) {
      counts = in_.counts();
    } else {
      return part;
    }
    in_.take("?");  // lazy: another order of trying, the same texts
    if (in_.peek() == '*' || in_.peek() == '+' || in_.peek() == '?' || in_.peek() == '{') {
      in_.fail("a quantifier behind a quantifier");
    }
    return repeated(std::move(part), counts.first, counts.second);
  }

  Expression group() {
    if (in_.take("?")) {
      if (in_.at("=") || in_.at("!") || in_.at("<=") || in_.at("<!")) {
        in_.fail("look-around is not supported");
      } else if (in_.take("<")) {
        while (!in_.failed() && !in_.take(">")) in_.code_point();
      } else if (!in_.take(":")) {
        in_.fail("this kind of group is not supported");
      }
    }
    if (in_.failed() || !in_.enter()) return {};
    Expression out = choice();
    in_.leave();
    if (!in_.failed() && !in_.take(")")) in_.fail("the group is not closed");
    return out;
  }

  Expression atom() {
    const std::size_t begin = in_.position();
    switch (in_.peek()) {
      case '(':
        in_.skip(1);
        return group();
      case '[':
        in_.skip(1);
        return one_of(set());
      case '.':
        in_.skip(1);
        return one_of(line_ends().complement());
      case '\\':
        in_.skip(1);
        return one_of(escape(false));
      case '*':
      case '+':
      case '?':
      case '{':
        in_.fail("a quantifier has nothing to repeat; as a character it is escaped");
        return {};
      default: {
        const std::uint32_t c = in_.code_point();
        if (c == 0 && !in_.failed()) in_.fail_at(begin, "a zero byte is written \\0");
        return one_of({{c, c}});
      }
    }
  }

  // Behind the backslash.
  CodePointSet escape(bool in_set) {
    const std::size_t begin = in_.position();
    const std::uint32_t c = in_.code_point();
    switch (c) {
      case 'd':
        return digits();
      case 'D':
        return digits().complement();
      case 'w':
        return word_characters();
      case 'W':
        return word_characters().complement();
      case 's':
        return ascii_blanks();
      case 'S':
        return all_blanks().complement();
      case 'n':
        return {{'\n', '\n'}};
      case 'r':
        return {{'\r', '\r'}};
      case 't':
        return {{'\t', '\t'}};
      case 'f':
        return {{'\f', '\f'}};
      case 'v':
        return {{'\v', '\v'}};
      case 'x':
        return single(in_.hexadecimal(2));
      case 'u':
        return single(in_.hexadecimal(4));
      case '0':
        if (in_.peek() >= '0' && in_.peek() <= '9') in_.fail_at(begin, "octal escapes are not supported");
        return {{0, 0}};
      case 'b':
        if (in_set) return {{'\b', '\b'}};
        [[fallthrough]];
      default:
        break;
    }
    const bool is_syntax = c < 0x80 && kSyntax.find(static_cast<char>(c)) != std::string_view::npos;
    const bool is_letter = c < 0x80 && word_characters().contains(c);
    if (!in_.failed() && is_letter && !is_syntax) {
      in_.fail_at(begin, c >= '1' && c <= '9' ? "back references are not supported" : "this escape is not supported");
    }
    return single(c);
  }

  static CodePointSet single(std::uint32_t c) { return {{c, c}}; }

  // Behind the opening bracket, to behind the closing one.
  CodePointSet set() {
    const std::size_t begin = in_.position();
    const bool negated = in_.take("^");
    std::vector<CodePointRange> out;
    while (!in_.failed() && !in_.take("]")) {
      if (in_.done()) {
        in_.fail_at(begin, "the set is not closed");
        break;
      }
      if (!in_.count_expression()) break;
      const std::size_t item = in_.position();
      const CodePointSet low = set_item();
      if (in_.peek() != '-' || in_.at("-]")) {
        out.insert(out.end(), low.ranges().begin(), low.ranges().end());
        continue;
      }
      in_.skip(1);
      const CodePointSet high = set_item();
      if (in_.failed()) break;
      if (!is_one(low) || !is_one(high) || high.ranges()[0].low < low.ranges()[0].low) {
        in_.fail_at(item, "a range goes from one character to a higher one");
        break;
      }
      out.push_back({low.ranges()[0].low, high.ranges()[0].low});
    }
    CodePointSet whole(std::move(out));
    return negated ? whole.complement() : whole;
  }

  static bool is_one(const CodePointSet& set) {
    return set.ranges().size() == 1 && set.ranges()[0].low == set.ranges()[0].high;
  }

  CodePointSet set_item() {
    if (in_.take("\\")) return escape(true);
    return single(in_.code_point());
  }

  TextReader in_;
};

Expression any_text() { return repeated(one_of(CodePointSet{{0, kCodePointMax}}), 0, kUnbounded); }

Expression joined(std::vector<RegexAlternative> alternatives, bool within) {
  Expression out;
  out.kind = ExpressionKind::choice;
  for (RegexAlternative& alternative : alternatives) {
    Expression whole;
    if (within && !alternative.from_start) whole.parts.push_back(any_text());
    whole.parts.push_back(std::move(alternative.body));
    if (within && !alternative.to_end) whole.parts.push_back(any_text());
    out.parts.push_back(std::move(whole));
  }
  return out;
}

}  // namespace

Result<std::vector<RegexAlternative>, GrammarError> parse_regex(std::string_view text) {
  return RegexParser(text).parse();
}

Expression whole_match(std::vector<RegexAlternative> alternatives) { return joined(std::move(alternatives), false); }

Expression match_within(std::vector<RegexAlternative> alternatives) { return joined(std::move(alternatives), true); }

}  // namespace orch::grammar
