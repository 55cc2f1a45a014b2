// Numbers about tokens that travel between a client and an engine. Plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace orch {

struct LogitBias {
  std::uint32_t id = 0;
  float bias = 0;  // added to the logit
  bool operator==(const LogitBias&) const = default;
};

// `log_probability`: natural, as the model gave it, before anything that shapes the draw (OC-NUM-1407).
struct ScoredToken {
  std::uint32_t id = 0;
  float log_probability = 0;
  std::string bytes{};  // the token's own, which need not be whole code points; a control token's name
  bool operator==(const ScoredToken&) const = default;
};

// One token of a text and the likeliest at its place, likeliest first.
struct TokenLogProbs {
  ScoredToken token;
  std::vector<ScoredToken> top{};
  std::size_t bytes() const {  // what it costs a buffer
    std::size_t sum = sizeof(TokenLogProbs) + token.bytes.size();
    for (const ScoredToken& each : top) sum += sizeof(ScoredToken) + each.bytes.size();
    return sum;
  }
  bool operator==(const TokenLogProbs&) const = default;
};

}  // namespace orch
