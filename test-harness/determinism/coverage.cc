#include "determinism/coverage.h"

#include <utility>

#include "worker/core/numerics.h"

namespace orch::determinism {

void Coverage::add(const Cell& cell, const Trace& got, bool resumed) {
  ++cells_;
  rows_ += got.logits.size();
  avx2_ += cell.device == Device::avx2 ? 1 : 0;
  avx512vnni_ += cell.device == Device::avx512vnni ? 1 : 0;
  vulkan_ += cell.device == Device::vulkan ? 1 : 0;
  cached_tokens_ += got.cached_tokens;
  preemptions_ += got.preemptions;
  drafted_ += got.drafted;
  drafts_accepted_ += got.drafts_accepted;
  resumed_ += resumed ? 1 : 0;
  for (std::size_t i = 0; i < kBatches.size(); ++i) batches_[i] += got.batch == kBatches[i] ? 1 : 0;
  for (const auto& [position, row] : got.logits) {
    if (position < worker::numerics::kAttentionSplit) continue;
    ++behind_split_.rows;
    behind_split_.hit += got.job_cached_tokens > 0 ? 1 : 0;
    behind_split_.preempted += row.preempted ? 1 : 0;
    behind_split_.resumed += resumed ? 1 : 0;
    behind_split_.drafted += row.drafted ? 1 : 0;
  }
}

std::vector<std::string> Coverage::missing() const {
  std::vector<std::string> out;
  const auto demand = [&out](bool there, std::string what) {
    if (!there) out.push_back(std::move(what));
  };
  demand(cached_tokens_ > 0, "a prefix hit");
  demand(preemptions_ > 0, "a preemption");
  demand(resumed_ > 0, "a resumption");
  demand(drafts_accepted_ > 0, "an accepted draft");
  demand(drafted_ > drafts_accepted_, "a refused draft");
  for (std::size_t i = 0; i < kBatches.size(); ++i) {
    demand(batches_[i] > 0, "a batch of " + std::to_string(kBatches[i]) + " that draw together");
  }
  const std::string behind = "a row behind the first attention split";
  demand(behind_split_.rows > 0, behind);
  demand(behind_split_.hit > 0, behind + " after a prefix hit");
  demand(behind_split_.preempted > 0, behind + " after a preemption of the job");
  demand(behind_split_.resumed > 0, behind + " after a resumption");
  demand(behind_split_.drafted > 0, behind + " that was drafted");
  return out;
}

std::string Coverage::text() const {
  const auto figure = [](std::uint64_t n, const char* what) { return std::to_string(n) + what; };
  std::string out = figure(cells_, " cells (") + figure(avx2_, " AVX2, ") + figure(avx512vnni_, " AVX-512 VNNI, ") +
                    figure(vulkan_, " Vulkan, ") + figure(refused_, " refused by the device), ") +
                    figure(rows_, " rows of logits, ") + figure(cached_tokens_, " cached tokens, ") +
                    figure(preemptions_, " preemptions, ") + figure(resumed_, " resumptions, ") +
                    figure(drafts_accepted_, " of ") + figure(drafted_, " drafted tokens accepted");
  out += "\nlargest batch:";
  for (std::size_t i = 0; i < kBatches.size(); ++i) {
    out += (i == 0 ? " " : ", ") + std::to_string(kBatches[i]) + " in " + figure(batches_[i], " cells");
  }
  out += "; rows behind the first attention split: " + figure(behind_split_.rows, ", ") +
         figure(behind_split_.hit, " after a hit, ") + figure(behind_split_.preempted, " after a preemption, ") +
         figure(behind_split_.resumed, " after a resumption, ") + figure(behind_split_.drafted, " drafted");
  return out;
}

}  // namespace orch::determinism
