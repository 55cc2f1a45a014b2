// Purpose: log-probabilities as JSON, in the OpenAI API's form (OC-OAI-1010). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/token_scores.h"

namespace orch::gateway {

// [{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":...,"logprob":...,"bytes":[...]}]}]
void append_log_probs(std::string& out, const std::vector<TokenLogProbs>& log_probs);

// The older form, of /v1/completions (OC-OAI-1014):
// {"tokens":["a"],"token_logprobs":[-0.5],"top_logprobs":[{"a":-0.5}], "text_offset":[0]}. The token itself is always
// among its `top_logprobs`, and one whose bytes are no whole code points is shown as bytes:\xe2\x80, as that API does.
// `text_offset`: characters of the text before its first token.
void append_completion_log_probs(std::string& out, const std::vector<TokenLogProbs>& log_probs,
                                 std::uint64_t text_offset);

// How many characters begin in these tokens.
std::uint64_t characters(const std::vector<TokenLogProbs>& log_probs);

}  // namespace orch::gateway
