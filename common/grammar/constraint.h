// A constraint on a generated text, as a client wrote it.
#pragma once

#include <cstdint>
#include <string>

namespace orch::grammar {

enum class ConstraintKind : std::uint8_t {
  json_object,  // any JSON object; `text` is empty
  json_schema,  // a JSON document that satisfies the schema in `text`
  regex,        // a text the whole of which matches
  gbnf,         // a text of the grammar
};

struct Constraint {
  ConstraintKind kind = ConstraintKind::json_object;
  std::string text;
  auto operator<=>(const Constraint&) const = default;
};

}  // namespace orch::grammar
