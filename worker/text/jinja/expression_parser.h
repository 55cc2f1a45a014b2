// Expressions of the template language, and the cursor both parsers share. The first error sticks; parsing then only
// unwinds.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "worker/text/jinja/ast.h"

namespace orch::worker::jinja {

class TokenCursor {
 public:
  explicit TokenCursor(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& peek(std::size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& take();
  bool at_op(std::string_view op) const { return peek().type == TokenType::op && peek().text == op; }
  bool at_word(std::string_view word) const { return peek().type == TokenType::name && peek().text == word; }
  bool accept(std::string_view op);
  bool accept_word(std::string_view word);
  std::string expect(TokenType type);
  void expect_op(std::string_view op);

  void fail(std::string message);
  bool failed() const { return failed_; }
  const TemplateError& error() const { return error_; }

 private:
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  bool failed_ = false;
  TemplateError error_;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenCursor& cursor) : cursor_(cursor) {}

  ExprPtr parse();                // with "a if b else c"
  ExprPtr parse_unconditional();  // without: a loop's "if" is its filter
  ExprPtr parse_tuple();          // "a, b" is a list

 private:
  ExprPtr make(ExprKind kind, std::string text = {});
  ExprPtr binary(std::string op, ExprPtr left, ExprPtr right);
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter);
  ExprPtr parse_primary();
  ExprPtr parse_number();
  ExprPtr parse_sequence(std::string_view closing);
  ExprPtr parse_dict();
  ExprPtr parse_postfix(ExprPtr left);
  ExprPtr parse_filters(ExprPtr left);
  ExprPtr parse_test(ExprPtr left);
  ExprPtr parse_subscript(ExprPtr left);
  void parse_arguments(Expr& out);

  TokenCursor& cursor_;
  int depth_ = 0;
};

}  // namespace orch::worker::jinja
