#include "worker/text/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "worker/text/utf8.h"

namespace orch::worker::jinja {

namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Result<std::vector<Token>, TemplateError> run() {
    while (at_ < source_.size() && !failed_) read_data();
    if (failed_) return Err{error_};
    emit(TokenType::end, "");
    return std::move(tokens_);
  }

 private:
  void fail(std::string message) {
    if (failed_) return;
    failed_ = true;
    error_ = {std::move(message), line_};
  }
  void emit(TokenType type, std::string text) { tokens_.push_back({type, std::move(text), line_}); }
  bool starts_with(std::string_view text) const { return std::string_view(source_).substr(at_).starts_with(text); }
  void advance(std::size_t count) {
    line_ += static_cast<std::uint32_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                                   source_.begin() + static_cast<std::ptrdiff_t>(at_ + count), '\n'));
    at_ += count;
  }

  // Text up to the next tag, then the tag.
  void read_data() {
    std::size_t tag = at_;
    for (;; ++tag) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        tag = source_.size();
        break;
      }
      if (source_[tag + 1] == '{' || source_[tag + 1] == '%' || source_[tag + 1] == '#') break;
    }
    std::string text = source_.substr(at_, tag - at_);
    if (strip_next_) text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
    const bool at_line_start = line_start_ && !strip_next_;
    strip_next_ = false;
    if (tag == source_.size()) {
      if (!text.empty()) emit(TokenType::data, text);
      at_ = tag;
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (sign == '-') {
      text.erase(text.find_last_not_of(kSpace) + 1);
    } else if (kind != '{' && sign != '+') {
      // lstrip_blocks: only blanks between the start of the line and the tag.
      const std::size_t line_start = text.rfind('\n') + 1;
      const bool begins_line = line_start > 0 || at_line_start;
      if (begins_line && text.find_first_not_of(" \t", line_start) == std::string::npos) text.erase(line_start);
    }
    if (!text.empty()) emit(TokenType::data, std::move(text));
    advance(tag - at_ + 2 + ((sign == '-' || (sign == '+' && kind != '{')) ? 1 : 0));
    if (kind == '#') return read_comment();
    if (kind == '%' && read_raw()) return;
    emit(kind == '{' ? TokenType::output_begin : TokenType::block_begin, "");
    read_tag(kind == '{' ? "}}" : "%}", kind == '{' ? TokenType::output_end : TokenType::block_end);
  }

  // Behind a tag: "-" strips what follows, else a block eats one newline (trim_blocks).
  void close_tag(char sign, bool is_block) {
    strip_next_ = sign == '-';
    line_start_ = false;
    if (is_block && sign != '-' && sign != '+' && at_ < source_.size() && source_[at_] == '\n') {
      advance(1);
      line_start_ = true;
    }
  }

  void read_comment() {
    const std::size_t close = source_.find("#}", at_);
    if (close == std::string::npos) return fail("comment is not closed");
    const char sign = close > at_ ? source_[close - 1] : '\0';
    advance(close + 2 - at_);
    close_tag(sign, true);
  }

  // {% raw %} ... {% endraw %}: everything inside is data.
  bool read_raw() {
    const auto tag_end = [this](std::size_t from, std::string_view word) -> std::size_t {
      std::size_t at = source_.find_first_not_of(kSpace, from);
      if (at == std::string::npos || source_.compare(at, word.size(), word) != 0) return std::string::npos;
      at = source_.find_first_not_of(kSpace, at + word.size());
      if (at == std::string::npos) return at;
      if (source_[at] == '-' || source_[at] == '+') ++at;
      return source_.compare(at, 2, "%}") == 0 ? at + 2 : std::string::npos;
    };
    const std::size_t body = tag_end(at_, "raw");
    if (body == std::string::npos) return false;
    const char open_sign = source_[body - 3];
    std::size_t close = body;
    std::size_t after = std::string::npos;
    bool strip_before = false;
    for (; (close = source_.find("{%", close)) != std::string::npos; ++close) {
      strip_before = close + 2 < source_.size() && source_[close + 2] == '-';
      after = tag_end(close + 2 + (strip_before ? 1 : 0), "endraw");
      if (after != std::string::npos) break;
    }
    if (after == std::string::npos) {
      fail("raw block is not closed");
      return true;
    }
    std::string text = source_.substr(body, close - body);
    if (open_sign == '-') text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
    if (open_sign != '-' && text.starts_with('\n')) text.erase(0, 1);
    if (strip_before) text.erase(text.find_last_not_of(kSpace) + 1);
    if (!text.empty()) emit(TokenType::data, text);
    advance(after - at_);
    close_tag(source_[after - 3], true);
    return true;
  }

  void read_tag(std::string_view closing, TokenType closing_type) {
    int depth = 0;  // of brackets: "}}" inside a dict literal closes the dict
    const std::size_t first = tokens_.size();
    while (!failed_) {
      // Bounds the depth of the tree that a chain of operators becomes.
      if (tokens_.size() - first > kTagTokensMax)
        return fail("a tag has more than " + std::to_string(kTagTokensMax) + " tokens");
      const std::size_t next = source_.find_first_not_of(kSpace, at_);
      if (next == std::string::npos) return fail("tag is not closed");
      advance(next - at_);
      const char sign = source_[at_];
      const bool signed_close = (sign == '-' || sign == '+') && source_.compare(at_ + 1, 2, closing) == 0;
      if (depth == 0 && (starts_with(closing) || signed_close)) {
        emit(closing_type, "");
        advance(signed_close ? 3 : 2);
        return close_tag(signed_close ? sign : '\0', closing_type == TokenType::block_end);
      }
      read_token(depth);
    }
  }

  void read_token(int& depth) {
    const char c = source_[at_];
    if (c == '\'' || c == '"') return read_string(c);
    if (is_digit(c)) return read_number();
    if (is_name_start(c)) {
      std::size_t end = at_;
      while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
      emit(TokenType::name, source_.substr(at_, end - at_));
      return advance(end - at_);
    }
    for (const std::string_view op : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (!starts_with(op)) continue;
      emit(TokenType::op, std::string(op));
      return advance(op.size());
    }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos) {
      return fail(std::string("unexpected character '") + c + "' in a tag");
    }
    if (c == '(' || c == '[' || c == '{') ++depth;
    if ((c == ')' || c == ']' || c == '}') && depth > 0) --depth;
    emit(TokenType::op, std::string(1, c));
    advance(1);
  }

  void read_number() {
    std::size_t end = at_;
    bool is_real = false;
    while (end < source_.size() && (is_digit(source_[end]) || source_[end] == '_')) ++end;
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
      is_real = true;
      for (++end; end < source_.size() && is_digit(source_[end]);) ++end;
    }
    if (end < source_.size() && (source_[end] | 0x20) == 'e') {
      std::size_t digits = end + 1;
      if (digits < source_.size() && (source_[digits] == '+' || source_[digits] == '-')) ++digits;
      if (digits < source_.size() && is_digit(source_[digits])) {
        is_real = true;
        for (end = digits; end < source_.size() && is_digit(source_[end]);) ++end;
      }
    }
    std::string text = source_.substr(at_, end - at_);
    std::erase(text, '_');
    const std::size_t digits_max = is_real ? 40 : 18;
    if (text.size() > digits_max) return fail("number has more than " + std::to_string(digits_max) + " digits");
    emit(is_real ? TokenType::real : TokenType::integer, std::move(text));
    advance(end - at_);
  }

  void read_string(char quote) {
    std::string out;
    std::size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\' || i + 1 >= source_.size()) {
        out.push_back(source_[i]);
        continue;
      }
      i = read_escape(i + 1, out);
    }
    if (i >= source_.size()) return fail("string is not closed");
    emit(TokenType::string, std::move(out));
    advance(i + 1 - at_);
  }

  // `at`: behind the backslash; returns the index of the last character used.
  std::size_t read_escape(std::size_t at, std::string& out) {
    const char c = source_[at];
    static constexpr std::array<std::pair<char, char>, 10> kSingle = {{{'n', '\n'},
                                                                       {'t', '\t'},
                                                                       {'r', '\r'},
                                                                       {'b', '\b'},
                                                                       {'f', '\f'},
                                                                       {'v', '\v'},
                                                                       {'a', '\a'},
                                                                       {'\\', '\\'},
                                                                       {'\'', '\''},
                                                                       {'"', '"'}}};
    for (const auto& [name, value] : kSingle) {
      if (c == name) {
        out.push_back(value);
        return at;
      }
    }
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0 || at + digits >= source_.size()) {
      out.push_back('\\');
      out.push_back(c);
      return at;
    }
    std::uint32_t value = 0;
    for (std::size_t i = 1; i <= digits; ++i) {
      const std::size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(source_[at + i] | 0x20));
      if (digit == std::string_view::npos) {
        fail("broken \\x, \\u or \\U escape");
        return at;
      }
      value = value * 16 + static_cast<std::uint32_t>(digit);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      fail("escape is no code point");
      return at;
    }
    append_utf8(out, value);
    return at + digits;
  }

  std::string source_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  std::vector<Token> tokens_;
  bool strip_next_ = false;
  bool line_start_ = true;
  bool failed_ = false;
  TemplateError error_;
};

}  // namespace

Result<std::vector<Token>, TemplateError> tokenize(std::string_view source) {
  if (source.size() > kTemplateBytesMax) {
    return Err{TemplateError{
        "template has " + std::to_string(source.size()) + " bytes; at most " + std::to_string(kTemplateBytesMax), 0}};
  }
  std::string text;
  text.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {  // every newline form counts as \n
    if (source[i] != '\r') {
      text.push_back(source[i]);
    } else {
      text.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return Lexer(std::move(text)).run();
}

}  // namespace orch::worker::jinja
