// A position in a text that is being parsed, the first error found there, and the bounds every parser of this folder
// shares: nesting and the number of expressions made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/grammar/code_points.h"
#include "common/grammar/expression.h"
#include "common/grammar/grammar_error.h"
#include "common/grammar/limits.h"

namespace orch::grammar {

class TextReader {
 public:
  explicit TextReader(std::string_view text) : text_(text) {}

  bool done() const { return position_ >= text_.size(); }
  bool failed() const { return error_.has_value(); }
  char peek() const { return done() ? '\0' : text_[position_]; }
  bool at(std::string_view word) const { return text_.substr(position_).starts_with(word); }
  void skip(std::size_t bytes) { position_ += bytes; }
  bool take(std::string_view word) {
    if (!at(word)) return false;
    position_ += word.size();
    return true;
  }
  std::size_t position() const { return position_; }
  void move_to(std::size_t position) { position_ = position; }

  void fail(std::string message) { fail_at(position_, std::move(message)); }
  void fail_at(std::size_t position, std::string message) {
    if (!error_) error_ = GrammarError{"byte " + std::to_string(position), std::move(message)};
  }
  const GrammarError& error() const { return *error_; }

  // The next code point; fails where the text is not UTF-8 or has ended.
  std::uint32_t code_point() {
    if (done()) return fail("the text ends too early"), 0;
    const auto c = next_code_point(text_, position_);
    if (!c) fail("this is not valid UTF-8");
    return c.value_or(0);
  }

  // `digits` hexadecimal ones: a code point.
  std::uint32_t hexadecimal(std::size_t digits) {
    const std::size_t begin = position_;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      const char c = peek();
      const std::uint32_t digit = c >= '0' && c <= '9'   ? static_cast<std::uint32_t>(c - '0')
                                  : c >= 'a' && c <= 'f' ? static_cast<std::uint32_t>(c - 'a' + 10)
                                  : c >= 'A' && c <= 'F' ? static_cast<std::uint32_t>(c - 'A' + 10)
                                                         : 16;
      if (done() || digit > 15) {
        fail_at(begin, std::to_string(digits) + " hexadecimal digits belong here");
        return 0;
      }
      value = value * 16 + digit;
      skip(1);
    }
    if (value > kCodePointMax || (value >= 0xD800 && value <= 0xDFFF)) fail_at(begin, "this is no code point");
    return value;
  }

  // {m}, {m,} or {m,n} behind its brace; at most kRepeatMax.
  std::pair<std::uint32_t, std::uint32_t> counts() {
    const std::size_t begin = position_;
    const std::uint32_t min = count();
    std::uint32_t max = min;
    if (take(",")) max = peek() == '}' ? kUnbounded : count();
    if (!failed() && !take("}")) fail_at(begin, "a count is written {m}, {m,} or {m,n}");
    if (!failed() && max < min) fail_at(begin, "the second count is below the first");
    return {min, max};
  }

  // Every expression passes here, so that text of any shape makes a bounded tree.
  bool count_expression() {
    if (++expressions_ <= kExpressionNodesMax) return true;
    fail("more than " + std::to_string(kExpressionNodesMax) + " parts");
    return false;
  }
  bool enter() {
    if (++depth_ <= kExpressionDepthMax) return true;
    fail("more than " + std::to_string(kExpressionDepthMax) + " groups within each other");
    return false;
  }
  void leave() { --depth_; }

 private:
  std::uint32_t count() {
    const std::size_t begin = position_;
    std::uint32_t value = 0;
    while (peek() >= '0' && peek() <= '9' && value <= kRepeatMax) {
      value = value * 10 + static_cast<std::uint32_t>(peek() - '0');
      skip(1);
    }
    if (position_ == begin) fail("a count is written {m}, {m,} or {m,n}");
    if (value > kRepeatMax) fail_at(begin, "a count is at most " + std::to_string(kRepeatMax));
    return value;
  }

  std::string_view text_;
  std::size_t position_ = 0;
  std::size_t depth_ = 0;
  std::size_t expressions_ = 0;
  std::optional<GrammarError> error_;
};

inline Expression one_of(CodePointSet set) {
  Expression out;
  out.kind = ExpressionKind::set;
  out.set = std::move(set);
  return out;
}

inline Expression repeated(Expression part, std::uint32_t min, std::uint32_t max) {
  Expression out;
  out.kind = ExpressionKind::repeat;
  out.min = min;
  out.max = max;
  out.parts.push_back(std::move(part));
  return out;
}

}  // namespace orch::grammar
