// Drafts of the tokens to come, looked up in the sequence itself (OC-ENGINE-1023): what followed the last time its end
// stood there. Pure. A draft never decides anything: a drafted token counts only where it is the one that is drawn.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace orch::worker {

// `count` tokens that may follow, what repeats going on repeating; empty: the end stands nowhere else.
std::vector<std::uint32_t> looked_up(std::span<const std::uint32_t> tokens, std::uint32_t count);

// How many drafted tokens a sequence may put into its next step, so that drafts that fail cost little: whatever its
// text, rejected <= 4 + 2 * accepted + drawn / 16. Whether an accepted token saves more than its row costs depends on
// the device: `bench.py speculation` measures it.
class DraftBudget {
 public:
  std::uint32_t allowed() const { return credit_ / kRejected; }
  // Of a step: so many were drafted, so many of them drawn.
  void settle(std::uint32_t drafted, std::uint32_t accepted);

 private:
  static constexpr std::uint32_t kRejected = 16;
  static constexpr std::uint32_t kAccepted = 2 * kRejected;
  static constexpr std::uint32_t kDrawn = 1;
  static constexpr std::uint32_t kCreditMax = 16 * kRejected;
  std::uint32_t credit_ = 4 * kRejected;
};

}  // namespace orch::worker
