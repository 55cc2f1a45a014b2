#include "orchestratord/shell/log_prob_text.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

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

// A name for a token in an object whose members are tokens.
std::string shown(const std::string& bytes) {
  if (runtime::find_invalid_utf8(bytes) == std::string_view::npos) return bytes;
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out = "bytes:";
  for (const char byte : bytes) {
    const auto value = static_cast<std::uint8_t>(byte);
    out.append("\\x").append({kDigits[value >> 4], kDigits[value & 15]});
  }
  return out;
}

std::uint64_t characters(const std::string& bytes) {
  return static_cast<std::uint64_t>(
      std::ranges::count_if(bytes, [](char byte) { return (static_cast<std::uint8_t>(byte) & 0xC0) != 0x80; }));
}

// [each of them], by what `append_one(token)` writes.
template <typename AppendOne>
void append_array(std::string& out, const std::vector<TokenLogProbs>& log_probs, const AppendOne& append_one) {
  out.push_back('[');
  for (std::size_t i = 0; i < log_probs.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_one(log_probs[i]);
  }
  out.push_back(']');
}

void append_named(std::string& out, const ScoredToken& scored) {
  append_json_string(out, shown(scored.bytes));
  out.push_back(':');
  append_number(out, static_cast<double>(scored.log_probability));
}

// The token first, then the likeliest. Names are members, so none comes twice: other tokens may have the same text.
void append_alternatives(std::string& out, const TokenLogProbs& at) {
  out.push_back('{');
  append_named(out, at.token);
  std::vector<std::string_view> named{at.token.bytes};
  for (const ScoredToken& each : at.top) {
    if (std::ranges::find(named, each.bytes) != named.end()) continue;
    named.push_back(each.bytes);
    out.push_back(',');
    append_named(out, each);
  }
  out.push_back('}');
}

}  // namespace

std::uint64_t characters(const std::vector<TokenLogProbs>& log_probs) {
  std::uint64_t sum = 0;
  for (const TokenLogProbs& each : log_probs) sum += characters(each.token.bytes);
  return sum;
}

void append_completion_log_probs(std::string& out, const std::vector<TokenLogProbs>& log_probs,
                                 std::uint64_t text_offset) {
  out += R"({"tokens":)";
  append_array(out, log_probs, [&](const TokenLogProbs& each) { append_json_string(out, shown(each.token.bytes)); });
  out += R"(,"token_logprobs":)";
  append_array(out, log_probs,
               [&](const TokenLogProbs& each) { append_number(out, static_cast<double>(each.token.log_probability)); });
  out += R"(,"top_logprobs":)";
  append_array(out, log_probs, [&](const TokenLogProbs& each) { append_alternatives(out, each); });
  out += R"(,"text_offset":)";
  append_array(out, log_probs, [&](const TokenLogProbs& each) {
    append_number(out, text_offset);
    text_offset += characters(each.token.bytes);
  });
  out.push_back('}');
}

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
