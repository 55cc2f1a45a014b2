// Purpose: the prompts that took down two workers; an identical one is refused for a while (M6, OC-MIGR-M6). Pure.
// Bound: kPromptsMax; the one that would end first makes room.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/base/time.h"
#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

// Of a served name and a prompt's content. Tells prompts apart that nobody made alike on purpose: whoever can take down
// workers at will has no need of another's quarantine.
using PromptDigest = std::array<std::uint64_t, 2>;
PromptDigest prompt_digest(const std::string& model, const Prompt& prompt);

class Quarantine {
 public:
  static constexpr std::size_t kPromptsMax = 1024;

  void add(const PromptDigest& prompt, Instant until);
  // Until when it is refused; nullopt: it is not.
  std::optional<Instant> until(const PromptDigest& prompt, Instant now) const;
  bool empty() const { return prompts_.empty(); }
  void expire(Instant now);

 private:
  std::map<PromptDigest, Instant> prompts_;
};

}  // namespace orch::gateway
