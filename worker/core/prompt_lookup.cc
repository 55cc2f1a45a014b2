#include "worker/core/prompt_lookup.h"

#include <algorithm>

#include "common/base/check.h"

namespace orch::worker {

namespace {

constexpr std::size_t kEndMax = 4;  // tokens of the end that are looked for; the longest that stands elsewhere wins
constexpr std::size_t kEndMin = 2;

}  // namespace

std::vector<std::uint32_t> looked_up(std::span<const std::uint32_t> tokens, std::uint32_t count) {
  const std::size_t size = tokens.size();
  std::size_t best = 0;       // length of the end that was found
  std::size_t following = 0;  // where the draft begins
  // `at`: behind a place where the last token stands; the latest place of the longest end.
  for (std::size_t at = size - std::min<std::size_t>(size, 1); at > 0 && best < kEndMax; --at) {
    std::size_t same = 0;
    while (same < kEndMax && same < at && tokens[at - 1 - same] == tokens[size - 1 - same]) ++same;
    if (same < kEndMin || same <= best) continue;
    best = same;
    following = at;
  }
  if (best == 0) return {};
  std::vector<std::uint32_t> out;
  for (std::size_t at = following; out.size() < count; ++at) out.push_back(at < size ? tokens[at] : out[at - size]);
  return out;
}

void DraftBudget::settle(std::uint32_t drafted, std::uint32_t accepted) {
  ORCH_CHECK(accepted <= drafted && drafted <= allowed());
  credit_ -= (drafted - accepted) * kRejected;
  credit_ = std::min(kCreditMax, credit_ + accepted * kAccepted + (accepted + 1) * kDrawn);
}

}  // namespace orch::worker
