// What the cells of a run went through, and what a run of many cells has to go through to mean anything. One thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "determinism/cell.h"
#include "determinism/traffic.h"

namespace orch::determinism {

// The demand is made of runs of at least so many cells; fewer may lack something by chance.
inline constexpr std::uint64_t kCoveredCells = 200;

class Coverage {
 public:
  // `resumed`: the job began behind tokens that it had already.
  void add(const Cell& cell, const Trace& got, bool resumed);
  void add_refused() { ++refused_; }  // the device refuses the model's types

  std::uint64_t cells() const { return cells_; }
  std::uint64_t vulkan() const { return vulkan_; }
  // What no cell went through, in words.
  std::vector<std::string> missing() const;
  // Two lines of figures without a line end.
  std::string text() const;

 private:
  static constexpr std::array<std::uint32_t, 6> kBatches = {2, 4, 8, 16, 32, 64};

  // Rows of logits whose keys lie in two attention splits.
  struct BehindSplit {
    std::uint64_t rows = 0;
    std::uint64_t hit = 0;  // the job found pages of its prompt
    std::uint64_t preempted = 0;
    std::uint64_t resumed = 0;
    std::uint64_t drafted = 0;
  };

  std::uint64_t cells_ = 0;
  std::uint64_t refused_ = 0;
  std::uint64_t avx2_ = 0;
  std::uint64_t avx512vnni_ = 0;
  std::uint64_t vulkan_ = 0;
  std::uint64_t rows_ = 0;
  std::uint64_t cached_tokens_ = 0;
  std::uint64_t preemptions_ = 0;
  std::uint64_t resumed_ = 0;
  std::uint64_t drafted_ = 0;
  std::uint64_t drafts_accepted_ = 0;
  std::array<std::uint64_t, kBatches.size()> batches_{};  // cells whose largest batch had exactly so many
  BehindSplit behind_split_;
};

}  // namespace orch::determinism
