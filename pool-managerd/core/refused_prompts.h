// Purpose: the prompts that orchestrators refuse since workers died under them, handed on to all (OC-MIGR-M8). Each
// orchestrator has a share of its own, whatever its starts: one that says too much loses of its own words those that
// end first, and nobody else's. Nothing stays longer than kRefusedRestMax. Pure; bounded by gateways_max and, for each,
// by kRefusedPromptsMax.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "common/base/fair_report.h"
#include "common/base/ids.h"
#include "common/base/time.h"

namespace orch::pool {

class RefusedPrompts {
 public:
  explicit RefusedPrompts(std::size_t gateways_max = 128) : gateways_max_(gateways_max) {}

  void report(const OrchId& from, const std::vector<RefusedPrompt>& prompts, Instant now);
  void expire(Instant now);
  // Each once, as long as whoever refuses it longest. For all, the one that said it among them: a start that has
  // forgotten what an earlier one saw hears of it here.
  std::vector<RefusedPrompt> all(Instant now) const;
  // Grows with every prompt that somebody has to be told of.
  std::uint64_t version() const { return version_; }

 private:
  std::size_t gateways_max_;
  std::map<OrchId, std::map<PromptDigest, Instant>> ends_;
  std::uint64_t version_ = 0;
};

}  // namespace orch::pool
