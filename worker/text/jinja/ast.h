// The parsed template. Immutable after parsing; shared by any number of renderings.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "worker/text/jinja/lexer.h"
#include "worker/text/jinja/value.h"

namespace orch::worker::jinja {

enum class ExprKind : std::uint8_t {
  literal,      // value
  name,         // text
  list,         // operands
  dict,         // operands: key, value, key, value
  attribute,    // operands[0] . text
  subscript,    // operands[0] [ operands[1] ]
  slice,        // operands[0] [ 1 : 2 : 3 ], absent parts null
  call,         // operands[0] ( arguments )
  filter,       // operands[0] | text ( arguments )
  test,         // operands[0] is text ( arguments )
  unary,        // text: - + not
  binary,       // text: + - * / // % ** ~ and or == != < <= > >= in "not in"
  conditional,  // operands[1] if operands[0] else operands[2] (null: undefined)
};

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Argument {
  std::string name;  // empty: positional
  ExprPtr value;
};

struct Expr {
  ExprKind kind = ExprKind::literal;
  std::uint32_t line = 0;
  std::string text;
  Value value;
  std::vector<ExprPtr> operands;
  std::vector<Argument> arguments;
};

enum class StmtKind : std::uint8_t {
  data,     // text
  output,   // exprs[0]
  branch,   // exprs[i] guards bodies[i]; one more body: else
  loop,     // names in exprs[0], filter exprs[1] (may be null); bodies[0], else bodies[1]
  assign,   // names = exprs[0]; names.size() == 2 with text "." : namespace attribute
  capture,  // {% set name %} bodies[0] {% endset %}
  macro,    // macro
  break_loop,
  next_loop,
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // default or null
  Body body;
};

struct Stmt {
  StmtKind kind = StmtKind::data;
  std::uint32_t line = 0;
  std::string text;
  std::vector<std::string> names;
  std::vector<ExprPtr> exprs;
  std::vector<Body> bodies;
  std::unique_ptr<Macro> macro;
};

inline constexpr int kNestingMax = 64;  // of expressions and blocks in the source

Result<Body, TemplateError> parse(std::vector<Token> tokens);

}  // namespace orch::worker::jinja
