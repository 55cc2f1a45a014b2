// Grammars in GBNF, llama.cpp's notation (OC-GRAMMAR-1012): `name ::= body` rules, of which `root` is the whole text;
// "literals" and [sets] with \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH, `.`, groups, |, * + ? {m,n}, # comments.
// References to tokens by number or name (`<...>`) are refused, since they are not texts.
#pragma once

#include <string_view>

#include "common/base/result.h"
#include "common/grammar/grammar_error.h"
#include "common/grammar/network.h"

namespace orch::grammar {

Result<Network, GrammarError> parse_gbnf(std::string_view text);

}  // namespace orch::grammar
