#include "common/grammar/compile.h"

#include "common/grammar/analysis.h"
#include "common/grammar/expression.h"
#include "common/grammar/gbnf.h"
#include "common/grammar/json_tree.h"
#include "common/grammar/limits.h"
#include "common/grammar/regex.h"
#include "common/grammar/schema_writer.h"

namespace orch::grammar {

namespace {

Result<Network, GrammarError> compile_schema(std::string_view text) {
  ORCH_TRY(tree, parse_json(text));
  return SchemaWriter(tree).write();
}

Result<Network, GrammarError> compile_regex(std::string_view text) {
  ORCH_TRY(alternatives, parse_regex(text));
  Network network;
  const Rule root = network.rule(network.add_rule());
  ExpressionWriter(network).add(root.entry, whole_match(std::move(alternatives)), Spelling::plain, root.exit);
  return network;
}

Result<Network, GrammarError> translate(ConstraintKind kind, std::string_view text) {
  switch (kind) {
    case ConstraintKind::json_object:
      return compile_schema(R"({"type":"object"})");
    case ConstraintKind::json_schema:
      return compile_schema(text);
    case ConstraintKind::regex:
      return compile_regex(text);
    case ConstraintKind::gbnf:
      return parse_gbnf(text);
  }
  return Err{GrammarError{"", "no such kind of constraint"}};
}

}  // namespace

Result<Network, GrammarError> compile(ConstraintKind kind, std::string_view text) {
  if (text.size() > kTextBytesMax) {
    return Err{GrammarError{"", std::to_string(text.size()) + " bytes; at most " + std::to_string(kTextBytesMax)}};
  }
  auto network = translate(kind, text);
  if (!network.ok()) return network;
  ByteSet all;
  all.set();
  const auto analysed = analyse(network.value(), all);
  if (!analysed.ok()) return Err{analysed.error()};
  return network;
}

}  // namespace orch::grammar
