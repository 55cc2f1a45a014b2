// Purpose: log-probabilities as JSON, in the OpenAI API's form (OC-OAI-1010). Pure.
#pragma once

#include <string>
#include <vector>

#include "common/base/token_scores.h"

namespace orch::gateway {

// [{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":...,"logprob":...,"bytes":[...]}]}]
void append_log_probs(std::string& out, const std::vector<TokenLogProbs>& log_probs);

}  // namespace orch::gateway
