// How often each token stands in a sequence, for the penalties of the sampler. A function of the tokens alone, so that
// a resumed or recomputed sequence is penalised as the uninterrupted one was (M2). Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace orch::worker {

struct TokenCount {
  std::uint32_t id = 0;
  std::uint32_t in_completion = 0;  // 0: in the prompt only
};

class TokenCounts {
 public:
  void add_prompt(std::span<const std::uint32_t> ids) {
    for (const std::uint32_t id : ids) seen_.push_back({id, 0});
    std::sort(seen_.begin(), seen_.end(), [](const TokenCount& a, const TokenCount& b) { return a.id < b.id; });
    seen_.erase(
        std::unique(seen_.begin(), seen_.end(), [](const TokenCount& a, const TokenCount& b) { return a.id == b.id; }),
        seen_.end());
  }
  void add_completion(std::uint32_t id) {
    const auto at = std::lower_bound(seen_.begin(), seen_.end(), id,
                                     [](const TokenCount& entry, std::uint32_t wanted) { return entry.id < wanted; });
    if (at != seen_.end() && at->id == id)
      ++at->in_completion;
    else
      seen_.insert(at, {id, 1});
  }
  std::span<const TokenCount> entries() const { return seen_; }  // by id; each id once

 private:
  std::vector<TokenCount> seen_;
};

}  // namespace orch::worker
