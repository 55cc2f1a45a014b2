#include "orchestratord/shell/constraint_request.h"

#include <utility>

#include "common/grammar/compile.h"
#include "common/grammar/limits.h"

namespace orch::gateway {
using grammar::Constraint;
using grammar::ConstraintKind;
using nlohmann::json;

namespace {

constexpr std::size_t kFormatNameBytesMax = 64;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::size_t skip_blanks(std::string_view text, std::size_t at) {
  while (at < text.size() && is_blank(text[at])) ++at;
  return at;
}

// Behind the string whose opening quote is at `at`.
std::size_t skip_string(std::string_view text, std::size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at + 1;
}

// Behind the value at `at`; nesting is counted, not recursed into.
std::size_t skip_value(std::string_view text, std::size_t at) {
  std::size_t depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = skip_string(text, at);
      if (depth == 0) return at;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') {
      if (depth == 0) return at;
      if (--depth == 0) return at + 1;
    }
    if (depth == 0 && (c == ',' || is_blank(c))) return at;
    ++at;
  }
  return at;
}

// The text at a path of members.
std::optional<std::string_view> text_at(std::string_view body, std::initializer_list<std::string_view> path) {
  std::optional<std::string_view> out = body;
  for (const std::string_view name : path) {
    if (out) out = member_text(*out, name);
  }
  return out;
}

void take(JsonFields& fields, std::string_view name, const std::string& inner, Constraint constraint,
          JobPayload& payload) {
  if (!fields.ok()) return;
  const std::string field = fields.path_of(name) + "." + inner;
  if (auto checked = check_constraint(constraint, field); !checked.ok()) return fields.adopt(checked.error());
  if (!payload.stop.empty()) return fields.fail("stop", "would cut the text that " + std::string(name) + " asks for");
  payload.constraint = std::move(constraint);
}

// The schema as the client wrote it.
void take_schema(JsonFields& fields, std::string_view name, const std::string& inner,
                 std::optional<std::string_view> text, JobPayload& payload) {
  if (!text) return fields.fail(name, "has a member whose name is written with escapes");
  take(fields, name, inner, {ConstraintKind::json_schema, std::string(*text)}, payload);
}

}  // namespace

std::optional<std::string_view> member_text(std::string_view text, std::string_view name) {
  std::optional<std::string_view> out;
  std::size_t at = skip_blanks(text, 0);
  if (at >= text.size() || text[at] != '{') return out;
  for (at = skip_blanks(text, at + 1); at < text.size() && text[at] == '"'; at = skip_blanks(text, at + 1)) {
    const std::size_t end = skip_string(text, at);
    if (end > text.size()) return out;
    const std::string_view own = text.substr(at + 1, end - at - 2);
    const std::size_t begin = skip_blanks(text, skip_blanks(text, end) + 1);
    const std::size_t behind = skip_value(text, begin);
    if (begin >= text.size() || behind > text.size()) return out;
    if (own == name) out = text.substr(begin, behind - begin);
    at = skip_blanks(text, behind);
    if (at >= text.size() || text[at] != ',') return out;
  }
  return out;
}

Status<Failure> check_constraint(const Constraint& constraint, const std::string& field) {
  const auto compiled = grammar::compile(constraint.kind, constraint.text);
  if (compiled.ok()) return Ok{};
  const grammar::GrammarError& error = compiled.error();
  const bool is_pointer = error.where.starts_with('#');
  const std::string where = is_pointer || error.where.empty() ? "" : " at " + error.where;
  const std::string path = is_pointer ? field + error.where : field;
  return Err{invalid(path, path + where + ": " + error.message)};
}

void read_response_format(JsonFields& fields, std::string_view body, JobPayload& payload) {
  static constexpr std::string_view kName = "response_format";
  const json* object = fields.object(kName);
  if (object == nullptr) return;
  JsonFields format(*object, fields.path_of(kName));
  if (!format.has("type")) format.fail("type", "is required");
  const std::size_t type = format.choice("type", {"text", "json_object", "json_schema"}, 0);
  if (type != 2 && format.has("json_schema")) format.fail("json_schema", "goes with type json_schema");
  if (type == 2) {
    const json* inner = format.object("json_schema");
    if (inner == nullptr) {
      format.fail("json_schema", "is required");
    } else {
      JsonFields schema(*inner, format.path_of("json_schema"));
      schema.string("name", true, 1, kFormatNameBytesMax);
      schema.string("description", false, 0, grammar::kTextBytesMax);
      schema.boolean("strict", true);  // obeyed either way
      if (!schema.has("schema")) schema.fail("schema", "is required");
      schema.any("schema");
      if (auto failure = schema.finish()) format.adopt(std::move(*failure));
    }
  }
  if (auto failure = format.finish()) return fields.adopt(std::move(*failure));
  if (type == 1) take(fields, kName, "type", {ConstraintKind::json_object, {}}, payload);
  if (type == 2) {
    take_schema(fields, kName, "json_schema.schema", text_at(body, {kName, "json_schema", "schema"}), payload);
  }
}

void read_constraint(JsonFields& fields, std::string_view body, JobPayload& payload) {
  static constexpr std::string_view kName = "constraint";
  const json* object = fields.object(kName);
  if (object == nullptr) return;
  JsonFields inner(*object, fields.path_of(kName));
  const bool any_object = inner.boolean("json_object", false);
  const json* schema = inner.any("json_schema");
  const std::string regex = inner.string("regex", false, 1, grammar::kTextBytesMax);
  const std::string gbnf = inner.string("gbnf", false, 1, grammar::kTextBytesMax);
  if (auto failure = inner.finish()) return fields.adopt(std::move(*failure));
  const int given =
      (any_object ? 1 : 0) + (schema != nullptr ? 1 : 0) + (regex.empty() ? 0 : 1) + (gbnf.empty() ? 0 : 1);
  if (given != 1) return fields.fail(kName, "needs exactly one of json_object (true), json_schema, regex and gbnf");
  if (any_object) take(fields, kName, "json_object", {ConstraintKind::json_object, {}}, payload);
  if (!regex.empty()) take(fields, kName, "regex", {ConstraintKind::regex, regex}, payload);
  if (!gbnf.empty()) take(fields, kName, "gbnf", {ConstraintKind::gbnf, gbnf}, payload);
  if (schema != nullptr) take_schema(fields, kName, "json_schema", text_at(body, {kName, "json_schema"}), payload);
}

}  // namespace orch::gateway
