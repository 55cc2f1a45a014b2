// Why a constraint was refused: input of a caller, never a fault of ours.
#pragma once

#include <string>

namespace orch::grammar {

struct GrammarError {
  std::string where;    // JSON pointer of the keyword ("#/properties/a/pattern"), or "byte 17" of a regex or grammar
  std::string message;  // what is wrong there, with the limit when there is one
};

}  // namespace orch::grammar
