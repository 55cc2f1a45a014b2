// A constraint to the network that accepts it; or the reason why it is
// refused. Orchestratord calls it before admission to refuse, a worker to run it: both say the same.
#pragma once

#include <string_view>

#include "common/base/result.h"
#include "common/grammar/constraint.h"
#include "common/grammar/grammar_error.h"
#include "common/grammar/network.h"

namespace orch::grammar {

Result<Network, GrammarError> compile(ConstraintKind kind, std::string_view text);

}  // namespace orch::grammar
