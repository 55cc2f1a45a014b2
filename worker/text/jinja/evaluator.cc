#include "worker/text/jinja/evaluator.h"

#include <algorithm>
#include <utility>

#include "worker/text/jinja/builtins.h"

namespace orch::worker::jinja {

namespace {

// Variables of a template, a loop's body or a macro's body. Assignments go to the innermost scope.
struct Scope {
  Map variables;
  const Scope* outer = nullptr;

  const Value* find(std::string_view name, Budget& budget) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer) {
      if (!budget.charge(scope->variables.entries.size())) return nullptr;  // each of them is looked at
      if (const Value* found = scope->variables.find(name)) return found;
    }
    return nullptr;
  }
};

enum class Flow : std::uint8_t { go_on, break_loop, next_loop };

class Evaluator {
 public:
  Evaluator(const Map& context, const Limits& limits) : budget_(limits), output_(&rendered_) {
    globals_.variables = context;
  }

  Result<Text, TemplateError> run(const Body& body) {
    scope_ = &globals_;
    run_body(body);
    if (budget_.failed()) return Err{budget_.error()};
    return std::move(rendered_);
  }

 private:
  // ---- statements
  Flow run_body(const Body& body) {
    for (const auto& statement : body) {
      const Flow flow = run_statement(*statement);
      if (flow != Flow::go_on || budget_.failed()) return flow;
    }
    return Flow::go_on;
  }

  // Blocks in macros that call themselves nest as deep as expressions do.
  void enter() {
    budget_.step();
    if (++depth_ > budget_.limits().depth_max) {
      budget_.fail("evaluation is nested deeper than " + std::to_string(budget_.limits().depth_max));
    }
  }

  Flow run_statement(const Stmt& statement) {
    budget_.at_line(statement.line);
    enter();
    const Flow flow = budget_.failed() ? Flow::go_on : run_kind(statement);
    --depth_;
    return flow;
  }

  Flow run_kind(const Stmt& statement) {
    switch (statement.kind) {
      case StmtKind::data:
        write(Text::trusted(statement.text));
        break;
      case StmtKind::output:
        write(to_text(evaluate(*statement.exprs[0]), budget_));
        break;
      case StmtKind::branch:
        return run_branch(statement);
      case StmtKind::loop:
        return run_loop(statement);
      case StmtKind::assign:
        run_assign(statement);
        break;
      case StmtKind::capture: {
        Text captured = capture(statement.bodies[0]);
        scope_->variables.set(statement.names[0], Value::text(std::move(captured)));
        break;
      }
      case StmtKind::macro:
        scope_->variables.set(statement.macro->name, Value(static_cast<const Macro*>(statement.macro.get())));
        break;
      case StmtKind::break_loop:
        return Flow::break_loop;
      case StmtKind::next_loop:
        return Flow::next_loop;
    }
    return Flow::go_on;
  }

  void write(const Text& text) {
    if (budget_.failed() || !budget_.charge(text.size())) return;
    if (output_->size() + text.size() > budget_.limits().output_bytes_max) {
      return budget_.fail("the rendered prompt exceeds " + std::to_string(budget_.limits().output_bytes_max) +
                          " bytes");
    }
    output_->append(text);
  }

  Text capture(const Body& body) {
    Text captured;
    Text* outer = std::exchange(output_, &captured);
    run_body(body);
    output_ = outer;
    return captured;
  }

  Flow run_branch(const Stmt& statement) {
    for (std::size_t i = 0; i < statement.exprs.size(); ++i) {
      const bool holds = evaluate(*statement.exprs[i]).truthy();
      if (budget_.failed()) return Flow::go_on;
      if (holds) return run_body(statement.bodies[i]);
    }
    if (statement.bodies.size() > statement.exprs.size()) return run_body(statement.bodies.back());
    return Flow::go_on;
  }

  bool bind(const std::vector<std::string>& names, const Value& value, Map& into) {
    if (names.size() == 1) {
      into.set(names[0], value);
      return true;
    }
    const List items = items_of(value, budget_);
    if (items.size() != names.size()) {
      budget_.fail("cannot unpack " + std::to_string(items.size()) + " values into " + std::to_string(names.size()) +
                   " names");
      return false;
    }
    for (std::size_t i = 0; i < names.size(); ++i) into.set(names[i], items[i]);
    return true;
  }

  Flow run_loop(const Stmt& statement) {
    List items = items_of(evaluate(*statement.exprs[0]), budget_);
    if (statement.exprs[1] != nullptr) {
      List kept;
      for (const Value& item : items) {
        Scope inner{{}, scope_};
        if (budget_.failed() || !bind(statement.names, item, inner.variables)) return Flow::go_on;
        Scope* outer = std::exchange(scope_, &inner);
        if (evaluate(*statement.exprs[1]).truthy()) kept.push_back(item);
        scope_ = outer;
      }
      items = std::move(kept);
    }
    if (budget_.failed()) return Flow::go_on;
    if (items.empty()) return statement.bodies.size() > 1 ? run_body(statement.bodies[1]) : Flow::go_on;
    ++loop_depth_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      Scope inner{{}, scope_};
      budget_.step();
      if (budget_.failed() || !bind(statement.names, items[i], inner.variables)) break;
      inner.variables.set("loop", loop_variable(items, i));
      Scope* outer = std::exchange(scope_, &inner);
      const Flow flow = run_body(statement.bodies[0]);
      scope_ = outer;
      if (flow == Flow::break_loop) break;
    }
    --loop_depth_;
    return Flow::go_on;
  }

  Value loop_variable(const List& items, std::size_t i) const {
    const auto number = [](std::size_t value) { return Value::integer(static_cast<std::int64_t>(value)); };
    Map out;
    out.entries.reserve(10);
    out.entries.emplace_back("index", number(i + 1));
    out.entries.emplace_back("index0", number(i));
    out.entries.emplace_back("revindex", number(items.size() - i));
    out.entries.emplace_back("revindex0", number(items.size() - i - 1));
    out.entries.emplace_back("first", Value::boolean(i == 0));
    out.entries.emplace_back("last", Value::boolean(i + 1 == items.size()));
    out.entries.emplace_back("length", number(items.size()));
    out.entries.emplace_back("depth", Value::integer(loop_depth_));
    out.entries.emplace_back("depth0", Value::integer(loop_depth_ - 1));
    if (i > 0) out.entries.emplace_back("previtem", items[i - 1]);
    if (i + 1 < items.size()) out.entries.emplace_back("nextitem", items[i + 1]);
    out.is_namespace = true;  // its keys are attributes; it has no dict methods
    return Value::map(std::move(out));
  }

  void run_assign(const Stmt& statement) {
    Value value = evaluate(*statement.exprs[0]);
    if (budget_.failed()) return;
    if (statement.text != ".") {
      bind(statement.names, value, scope_->variables);
      return;
    }
    const Value* target = scope_->find(statement.names[0], budget_);
    if (target == nullptr || target->map() == nullptr || !target->map()->is_namespace) {
      return budget_.fail("{% set " + statement.names[0] + "." + statement.names[1] + " %} needs a namespace");
    }
    const Value space = *target;
    space.map()->set(statement.names[1], value);
    budget_.note_change(space, value);
  }

  // ---- expressions
  Value evaluate(const Expr& expr) {
    budget_.at_line(expr.line);
    enter();
    Value out = budget_.failed() ? Value() : evaluate_kind(expr);
    --depth_;
    return out;
  }

  Value evaluate_kind(const Expr& expr) {
    switch (expr.kind) {
      case ExprKind::literal:
        return expr.value;
      case ExprKind::name:
        return variable(expr.text);
      case ExprKind::list: {
        List out;
        for (const ExprPtr& operand : expr.operands) out.push_back(evaluate(*operand));
        return Value::list(std::move(out));
      }
      case ExprKind::dict:
        return dict_literal(expr);
      case ExprKind::attribute:
        return attribute(evaluate(*expr.operands[0]), expr.text);
      case ExprKind::subscript: {
        const Value container = evaluate(*expr.operands[0]);
        return subscript(container, evaluate(*expr.operands[1]), budget_);
      }
      case ExprKind::slice:
        return slice_of(expr);
      case ExprKind::call:
        return call(expr);
      case ExprKind::filter: {
        const Value self = evaluate(*expr.operands[0]);
        const CallArguments given = arguments(expr);
        return budget_.failed() ? Value() : apply_filter(expr.text, self, given, budget_);
      }
      case ExprKind::test: {
        const Value self = evaluate(*expr.operands[0]);
        const CallArguments given = arguments(expr);
        return budget_.failed() ? Value() : Value::boolean(apply_test(expr.text, self, given, budget_));
      }
      case ExprKind::unary:
        return unary(expr);
      case ExprKind::binary:
        return binary(expr);
      case ExprKind::conditional:
        if (evaluate(*expr.operands[0]).truthy()) return evaluate(*expr.operands[1]);
        return expr.operands[2] != nullptr ? evaluate(*expr.operands[2]) : Value();
    }
    return {};
  }

  Value variable(const std::string& name) {
    if (const Value* found = scope_->find(name, budget_)) return *found;
    if (is_function(name)) return Value(Builtin{name, nullptr});
    return Value(Undefined{name});
  }

  // An attribute is a method first and a key second; a subscript is a key only.
  Value attribute(const Value& self, const std::string& name) {
    if (self.is_undefined()) {
      budget_.fail("\"" + self.get<Undefined>()->name + "\" is undefined");
      return {};
    }
    if (has_method(self, name)) return Value(Builtin{name, std::make_shared<const Value>(self)});
    if (self.map()) return subscript(self, Value::trusted(name), budget_);
    return Value(Undefined{name});
  }

  Value dict_literal(const Expr& expr) {
    Map out;
    for (std::size_t i = 0; i + 1 < expr.operands.size(); i += 2) {
      const Text key = to_text(evaluate(*expr.operands[i]), budget_);
      // Keys carry no marks, so a user's text as one could come out again as the template's own.
      if (key.mask.find('\1') != std::string::npos) {
        budget_.fail("a key of a dict is made of a message's text");
        return {};
      }
      out.set(key.bytes, evaluate(*expr.operands[i + 1]));
    }
    return Value::map(std::move(out));
  }

  Value slice_of(const Expr& expr) {
    const Value container = evaluate(*expr.operands[0]);
    Value bounds[3];
    const Value* given[3] = {};
    for (std::size_t i = 0; i < 3; ++i) {
      if (expr.operands[i + 1] == nullptr) continue;
      bounds[i] = evaluate(*expr.operands[i + 1]);
      given[i] = &bounds[i];
    }
    return budget_.failed() ? Value() : slice(container, given[0], given[1], given[2], budget_);
  }

  CallArguments arguments(const Expr& expr) {
    CallArguments out;
    for (const Argument& argument : expr.arguments) {
      Value value = evaluate(*argument.value);
      if (argument.name.empty())
        out.positional.push_back(std::move(value));
      else
        out.named.emplace_back(argument.name, std::move(value));
    }
    return out;
  }

  Value unary(const Expr& expr) {
    const Value operand = evaluate(*expr.operands[0]);
    if (expr.text == "not") return Value::boolean(!operand.truthy());
    if (!operand.is_number()) {
      budget_.fail("\"" + expr.text + "\" does not take " + std::string(operand.type_name()));
      return {};
    }
    return expr.text == "+" ? operand : apply_binary("-", Value::integer(0), operand, budget_);
  }

  Value binary(const Expr& expr) {
    Value left = evaluate(*expr.operands[0]);
    if (expr.text == "and") return left.truthy() ? evaluate(*expr.operands[1]) : left;
    if (expr.text == "or") return left.truthy() ? left : evaluate(*expr.operands[1]);
    const Value right = evaluate(*expr.operands[1]);
    return budget_.failed() ? Value() : apply_binary(expr.text, left, right, budget_);
  }

  Value call(const Expr& expr) {
    const Value callee = evaluate(*expr.operands[0]);
    const CallArguments given = arguments(expr);
    if (budget_.failed()) return {};
    if (const auto* macro = callee.get<const Macro*>()) return call_macro(**macro, given);
    if (const auto* builtin = callee.get<Builtin>()) return call_builtin(*builtin, given, budget_);
    const auto* undefined = callee.get<Undefined>();
    budget_.fail(undefined != nullptr ? "function \"" + undefined->name + "\" is not supported"
                                      : std::string(callee.type_name()) + " cannot be called");
    return {};
  }

  Value call_macro(const Macro& macro, const CallArguments& given) {
    Scope inner{{}, &globals_};
    if (given.positional.size() > macro.parameters.size()) {
      budget_.fail("macro " + macro.name + " takes " + std::to_string(macro.parameters.size()) + " arguments");
      return {};
    }
    Scope* outer = std::exchange(scope_, &inner);
    for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& [name, fallback] = macro.parameters[i];
      const Value* value = given.get(i, name);
      if (value != nullptr)
        inner.variables.set(name, *value);
      else
        inner.variables.set(name, fallback != nullptr ? evaluate(*fallback) : Value(Undefined{name}));
    }
    Text text = capture(macro.body);
    scope_ = outer;
    return Value::text(std::move(text));
  }

  Budget budget_;
  Text rendered_;
  Text* output_;
  Scope globals_;
  Scope* scope_ = nullptr;
  int depth_ = 0;
  int loop_depth_ = 0;
};

}  // namespace

Result<Text, TemplateError> render(const Body& body, const Map& context, const Limits& limits) {
  return Evaluator(context, limits).run(body);
}

}  // namespace orch::worker::jinja
