#include "orchestratord/shell/log_prob_text.h"

#include <cstdint>

#include "common/runtime/json_text.h"

namespace orch::gateway {
using runtime::append_json_string;
using runtime::append_number;

namespace {

// `bytes` are exact; `token` shows U+FFFD for what is no whole code point.
void append_scored(std::string& out, const ScoredToken& scored) {
  out += R"({"token":)";
  append_json_string(out, scored.bytes);
  out += R"(,"logprob":)";
  append_number(out, static_cast<double>(scored.log_probability));
  out += R"(,"bytes":[)";
  for (std::size_t i = 0; i < scored.bytes.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_number(out, std::uint64_t{static_cast<std::uint8_t>(scored.bytes[i])});
  }
  out.push_back(']');
}

}  // namespace

void append_log_probs(std::string& out, const std::vector<TokenLogProbs>& log_probs) {
  out.push_back('[');
  for (std::size_t i = 0; i < log_probs.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_scored(out, log_probs[i].token);
    out += R"(,"top_logprobs":[)";
    for (std::size_t k = 0; k < log_probs[i].top.size(); ++k) {
      if (k > 0) out.push_back(',');
      append_scored(out, log_probs[i].top[k]);
      out.push_back('}');
    }
    out += "]}";
  }
  out.push_back(']');
}

}  // namespace orch::gateway
