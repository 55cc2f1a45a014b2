// A regular expression of the declared subset of ECMA-262 (OC-GRAMMAR-1011): literals, . and [...] with ranges and
// escapes, \d \w \s (ASCII) and their complements, groups, |, * + ? {m,n} with or without a lazy mark, ^ and $ at the
// very ends. Look-around, back references, word borders, flags and \p are refused.
#pragma once

#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/grammar/expression.h"
#include "common/grammar/grammar_error.h"

namespace orch::grammar {

struct RegexAlternative {
  Expression body;
  bool from_start = false;  // ^
  bool to_end = false;      // $
};

// The alternatives of the outermost level.
Result<std::vector<RegexAlternative>, GrammarError> parse_regex(std::string_view text);

// A text the whole of which matches.
Expression whole_match(std::vector<RegexAlternative> alternatives);
// A text that has a match somewhere, as `pattern` of a JSON Schema asks.
Expression match_within(std::vector<RegexAlternative> alternatives);

}  // namespace orch::grammar
