// A JSON text as a tree that keeps what a schema needs and general readers drop: the order of members and the digits of
// numbers. RFC 8259 strictly; repeated member names, broken UTF-8 and lone surrogates are refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/grammar/grammar_error.h"

namespace orch::grammar {

enum class JsonKind : std::uint8_t { null, boolean, number, string, array, object };

struct JsonTree {
  JsonKind kind = JsonKind::null;
  bool truth = false;
  std::string name{};             // of a member of an object
  std::string text{};             // of a string, decoded; of a number, as it was written
  std::vector<JsonTree> items{};  // of an array; of an object, its members

  bool is(JsonKind wanted) const { return kind == wanted; }
  // Null: there is none.
  const JsonTree* member(std::string_view wanted) const;
};

// At most kTextBytesMax bytes and kJsonDepthMax levels.
Result<JsonTree, GrammarError> parse_json(std::string_view text);

// The shortest spelling: no blanks, members in their order, numbers as they were written.
void append_json(std::string& out, const JsonTree& tree);
void append_json_text(std::string& out, std::string_view text);  // quoted

}  // namespace orch::grammar
