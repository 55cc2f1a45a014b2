#include "pool-managerd/core/refused_prompts.h"

#include <algorithm>

namespace orch::pool {

void RefusedPrompts::report(const OrchId& from, const std::vector<RefusedPrompt>& prompts, Instant now) {
  constexpr Duration kNews = Duration::seconds(1);  // less is the way that the message took
  expire(now);
  for (const RefusedPrompt& each : prompts) {
    if (each.rest.ns <= 0) continue;
    if (!ends_.contains(from) && ends_.size() >= gateways_max_) return;
    const Instant until = now + std::min(each.rest, kRefusedRestMax);
    auto& known = ends_[from];
    const auto [entry, fresh] = known.try_emplace(each.prompt, until);
    if (fresh || entry->second + kNews < until) ++version_;
    entry->second = std::max(entry->second, until);
    if (known.size() <= kRefusedPromptsMax) continue;
    known.erase(
        std::min_element(known.begin(), known.end(), [](const auto& a, const auto& b) { return a.second < b.second; }));
  }
}

void RefusedPrompts::expire(Instant now) {
  for (auto& [from, known] : ends_) std::erase_if(known, [&](const auto& entry) { return entry.second <= now; });
  std::erase_if(ends_, [](const auto& entry) { return entry.second.empty(); });
}

std::vector<RefusedPrompt> RefusedPrompts::all(Instant now) const {
  std::map<PromptDigest, Duration> rests;
  for (const auto& [from, known] : ends_) {
    for (const auto& [prompt, until] : known) {
      if (until > now) rests[prompt] = std::max(rests[prompt], until - now);
    }
  }
  std::vector<RefusedPrompt> out;
  out.reserve(rests.size());
  for (const auto& [prompt, rest] : rests) out.push_back({prompt, rest});
  return out;
}

}  // namespace orch::pool
