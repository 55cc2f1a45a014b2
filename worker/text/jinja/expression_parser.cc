#include "worker/text/jinja/expression_parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace orch::worker::jinja {

const Token& TokenCursor::take() {
  const Token& token = peek();
  if (at_ < tokens_.size() - 1) ++at_;
  return token;
}

bool TokenCursor::accept(std::string_view op) {
  if (failed_ || !at_op(op)) return false;
  take();
  return true;
}

bool TokenCursor::accept_word(std::string_view word) {
  if (failed_ || !at_word(word)) return false;
  take();
  return true;
}

std::string TokenCursor::expect(TokenType type) {
  if (failed_) return {};
  if (peek().type != type) {
    fail("unexpected \"" + peek().text + "\"");
    return {};
  }
  return take().text;
}

void TokenCursor::expect_op(std::string_view op) {
  if (!accept(op)) fail("expected \"" + std::string(op) + "\" before \"" + peek().text + "\"");
}

void TokenCursor::fail(std::string message) {
  if (failed_) return;
  failed_ = true;
  error_ = {std::move(message), peek().line};
}

ExprPtr ExpressionParser::make(ExprKind kind, std::string text) {
  auto out = std::make_unique<Expr>();
  out->kind = kind;
  out->line = cursor_.peek().line;
  out->text = std::move(text);
  return out;
}

ExprPtr ExpressionParser::binary(std::string op, ExprPtr left, ExprPtr right) {
  ExprPtr out = make(ExprKind::binary, std::move(op));
  out->operands.push_back(std::move(left));
  out->operands.push_back(std::move(right));
  return out;
}

ExprPtr ExpressionParser::parse() {
  // Every nesting passes here; chains of one operator do not nest the parser, so they are counted where they are built.
  if (++depth_ > kNestingMax) cursor_.fail("expressions are nested deeper than " + std::to_string(kNestingMax));
  ExprPtr out = cursor_.failed() ? make(ExprKind::literal) : parse_or();
  while (cursor_.accept_word("if")) {
    ExprPtr choice = make(ExprKind::conditional);
    choice->operands.push_back(parse_or());
    choice->operands.push_back(std::move(out));
    choice->operands.push_back(cursor_.accept_word("else") ? parse() : nullptr);
    out = std::move(choice);
  }
  --depth_;
  return out;
}

ExprPtr ExpressionParser::parse_unconditional() { return parse_or(); }

ExprPtr ExpressionParser::parse_tuple() {
  ExprPtr first = parse();
  if (!cursor_.at_op(",")) return first;
  ExprPtr out = make(ExprKind::list);
  out->operands.push_back(std::move(first));
  while (cursor_.accept(",")) {
    const TokenType next = cursor_.peek().type;
    if (next == TokenType::block_end || next == TokenType::output_end) break;
    out->operands.push_back(parse());
  }
  return out;
}

ExprPtr ExpressionParser::parse_or() {
  ExprPtr out = parse_and();
  while (cursor_.accept_word("or")) out = binary("or", std::move(out), parse_and());
  return out;
}

ExprPtr ExpressionParser::parse_and() {
  ExprPtr out = parse_not();
  while (cursor_.accept_word("and")) out = binary("and", std::move(out), parse_not());
  return out;
}

ExprPtr ExpressionParser::parse_not() {
  if (!cursor_.at_word("not")) return parse_compare();
  if (++depth_ > kNestingMax) cursor_.fail("expressions are nested deeper than " + std::to_string(kNestingMax));
  cursor_.accept_word("not");
  ExprPtr out = make(ExprKind::unary, "not");
  out->operands.push_back(cursor_.failed() ? nullptr : parse_not());
  --depth_;
  return out;
}

ExprPtr ExpressionParser::parse_compare() {
  ExprPtr out = parse_sum();
  while (!cursor_.failed()) {
    std::string op;
    for (const std::string_view candidate : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (cursor_.accept(candidate)) {
        op = candidate;
        break;
      }
    }
    if (op.empty() && cursor_.accept_word("in")) op = "in";
    if (op.empty() && cursor_.at_word("not") && cursor_.peek(1).text == "in") {
      cursor_.take();
      cursor_.take();
      op = "not in";
    }
    if (op.empty()) break;
    out = binary(std::move(op), std::move(out), parse_sum());
  }
  return out;
}

ExprPtr ExpressionParser::parse_sum() {
  ExprPtr out = parse_concat();
  while (!cursor_.failed() && (cursor_.at_op("+") || cursor_.at_op("-"))) {
    std::string op = cursor_.take().text;
    out = binary(std::move(op), std::move(out), parse_concat());
  }
  return out;
}

ExprPtr ExpressionParser::parse_concat() {
  ExprPtr out = parse_product();
  while (cursor_.accept("~")) out = binary("~", std::move(out), parse_product());
  return out;
}

ExprPtr ExpressionParser::parse_product() {
  ExprPtr out = parse_power();
  while (!cursor_.failed() && (cursor_.at_op("*") || cursor_.at_op("/") || cursor_.at_op("//") || cursor_.at_op("%"))) {
    std::string op = cursor_.take().text;
    out = binary(std::move(op), std::move(out), parse_power());
  }
  return out;
}

ExprPtr ExpressionParser::parse_power() {
  ExprPtr out = parse_unary(true);
  while (cursor_.accept("**")) out = binary("**", std::move(out), parse_unary(true));
  return out;
}

ExprPtr ExpressionParser::parse_unary(bool with_filter) {
  ExprPtr out;
  if (cursor_.at_op("-") || cursor_.at_op("+")) {
    if (++depth_ > kNestingMax) cursor_.fail("expressions are nested deeper than " + std::to_string(kNestingMax));
    std::string op = cursor_.take().text;
    out = make(ExprKind::unary, std::move(op));
    out->operands.push_back(cursor_.failed() ? nullptr : parse_unary(false));
    --depth_;
  } else {
    out = parse_postfix(parse_primary());
  }
  return with_filter ? parse_filters(std::move(out)) : std::move(out);
}

ExprPtr ExpressionParser::parse_number() {
  const Token& token = cursor_.take();
  ExprPtr out = make(ExprKind::literal);
  if (token.type == TokenType::integer) {
    std::int64_t number = 0;
    std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
    out->value = Value::integer(number);
  } else {
    double number = 0;
    std::from_chars(token.text.data(), token.text.data() + token.text.size(), number);
    out->value = Value::real(number);
  }
  return out;
}

ExprPtr ExpressionParser::parse_primary() {
  const Token& token = cursor_.peek();
  ExprPtr out = make(ExprKind::literal);
  switch (token.type) {
    case TokenType::integer:
    case TokenType::real:
      return parse_number();
    case TokenType::string: {
      std::string text;
      while (cursor_.peek().type == TokenType::string) text += cursor_.take().text;
      out->value = Value::trusted(text);
      return out;
    }
    case TokenType::name:
      if (token.text == "true" || token.text == "True")
        out->value = Value::boolean(true);
      else if (token.text == "false" || token.text == "False")
        out->value = Value::boolean(false);
      else if (token.text == "none" || token.text == "None")
        out->value = Value::none();
      else
        out = make(ExprKind::name, token.text);
      cursor_.take();
      return out;
    case TokenType::op:
      if (cursor_.accept("[")) return parse_sequence("]");
      if (cursor_.accept("{")) return parse_dict();
      if (cursor_.accept("(")) {
        if (cursor_.at_op(")")) return parse_sequence(")");
        ExprPtr first = parse();
        if (cursor_.accept(")")) return first;
        cursor_.expect_op(",");
        ExprPtr tuple = parse_sequence(")");
        tuple->operands.insert(tuple->operands.begin(), std::move(first));
        return tuple;
      }
      break;
    case TokenType::data:
    case TokenType::output_begin:
    case TokenType::output_end:
    case TokenType::block_begin:
    case TokenType::block_end:
    case TokenType::end:
      break;
  }
  cursor_.fail("expected a value before \"" + token.text + "\"");
  return out;
}

ExprPtr ExpressionParser::parse_sequence(std::string_view closing) {
  ExprPtr out = make(ExprKind::list);
  while (!cursor_.failed() && !cursor_.accept(closing)) {
    out->operands.push_back(parse());
    if (!cursor_.accept(",") && !cursor_.at_op(closing)) cursor_.expect_op(closing);
  }
  return out;
}

ExprPtr ExpressionParser::parse_dict() {
  ExprPtr out = make(ExprKind::dict);
  while (!cursor_.failed() && !cursor_.accept("}")) {
    out->operands.push_back(parse());
    cursor_.expect_op(":");
    out->operands.push_back(parse());
    if (!cursor_.accept(",") && !cursor_.at_op("}")) cursor_.expect_op("}");
  }
  return out;
}

ExprPtr ExpressionParser::parse_postfix(ExprPtr left) {
  while (!cursor_.failed()) {
    ExprPtr out;
    if (cursor_.accept(".")) {
      out = make(ExprKind::attribute);
      if (cursor_.peek().type == TokenType::integer) {
        out->kind = ExprKind::subscript;
        out->operands.push_back(std::move(left));
        out->operands.push_back(parse_number());
      } else {
        out->text = cursor_.expect(TokenType::name);
        out->operands.push_back(std::move(left));
      }
    } else if (cursor_.accept("[")) {
      out = parse_subscript(std::move(left));
    } else if (cursor_.accept("(")) {
      out = make(ExprKind::call);
      out->operands.push_back(std::move(left));
      parse_arguments(*out);
    } else {
      return left;
    }
    left = std::move(out);
  }
  return left;
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr left) {
  std::array<ExprPtr, 3> parts;
  std::size_t colons = 0;
  while (!cursor_.failed() && !cursor_.at_op("]")) {
    if (cursor_.accept(":")) {
      if (++colons > 2) cursor_.fail("a slice has at most two colons");
    } else if (parts[std::min<std::size_t>(colons, 2)]) {
      cursor_.expect_op("]");
    } else {
      parts[std::min<std::size_t>(colons, 2)] = parse();
    }
  }
  cursor_.expect_op("]");
  if (colons == 0 && !parts[0]) cursor_.fail("empty subscript");
  ExprPtr out = make(colons == 0 ? ExprKind::subscript : ExprKind::slice);
  out->operands.push_back(std::move(left));
  out->operands.push_back(std::move(parts[0]));
  if (colons > 0) {
    out->operands.push_back(std::move(parts[1]));
    out->operands.push_back(std::move(parts[2]));
  }
  return out;
}

void ExpressionParser::parse_arguments(Expr& out) {
  while (!cursor_.failed() && !cursor_.accept(")")) {
    Argument argument;
    if (cursor_.peek().type == TokenType::name && cursor_.peek(1).type == TokenType::op &&
        cursor_.peek(1).text == "=") {
      argument.name = cursor_.take().text;
      cursor_.take();
    }
    argument.value = parse();
    out.arguments.push_back(std::move(argument));
    if (!cursor_.accept(",") && !cursor_.at_op(")")) cursor_.expect_op(")");
  }
}

ExprPtr ExpressionParser::parse_filters(ExprPtr left) {
  while (!cursor_.failed()) {
    if (cursor_.accept("|")) {
      ExprPtr out = make(ExprKind::filter, cursor_.expect(TokenType::name));
      out->operands.push_back(std::move(left));
      if (cursor_.accept("(")) parse_arguments(*out);
      left = std::move(out);
    } else if (cursor_.accept_word("is")) {
      left = parse_test(std::move(left));
    } else if (cursor_.accept("(")) {
      ExprPtr out = make(ExprKind::call);
      out->operands.push_back(std::move(left));
      parse_arguments(*out);
      left = std::move(out);
    } else {
      return left;
    }
  }
  return left;
}

ExprPtr ExpressionParser::parse_test(ExprPtr left) {
  const bool negated = cursor_.accept_word("not");
  ExprPtr out = make(ExprKind::test, cursor_.expect(TokenType::name));
  out->operands.push_back(std::move(left));
  const Token& next = cursor_.peek();
  const bool is_keyword = next.type == TokenType::name &&
                          (next.text == "else" || next.text == "or" || next.text == "and" || next.text == "is" ||
                           next.text == "if" || next.text == "not" || next.text == "in" || next.text == "recursive");
  if (cursor_.accept("(")) {
    parse_arguments(*out);
  } else if ((next.type == TokenType::name && !is_keyword) || next.type == TokenType::string ||
             next.type == TokenType::integer || next.type == TokenType::real || cursor_.at_op("[") ||
             cursor_.at_op("{")) {
    out->arguments.push_back({{}, parse_postfix(parse_primary())});
  }
  if (!negated) return out;
  ExprPtr inverted = make(ExprKind::unary, "not");
  inverted->operands.push_back(std::move(out));
  return inverted;
}

}  // namespace orch::worker::jinja
