// A constraint on a generated text, as a client wrote it, to the network that accepts it; or the reason why it is
// refused. Orchestratord calls it before admission to refuse, a worker to run it: both say the same.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/grammar/grammar_error.h"
#include "common/grammar/network.h"

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

Result<Network, GrammarError> compile(ConstraintKind kind, std::string_view text);

}  // namespace orch::grammar
