// Purpose: the prompts that took down two workers; an identical one is refused for a while (OC-MIGR-M6, OC-MIGR-M8).
// What this gateway saw and what others say of theirs are kept apart: only the former is told to others, so that
// nothing goes round for ever, and a flood of the latter pushes nothing of the former out. Pure. Bound: kPromptsMax of
// each; the one that would end first makes room.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/fair_report.h"
#include "common/base/time.h"
#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

// Of a served name and a prompt's content. Tells prompts apart that nobody made alike on purpose: whoever can take down
// workers at will has no need of another's quarantine.
PromptDigest prompt_digest(const std::string& model, const Prompt& prompt);

class Quarantine {
 public:
  static constexpr std::size_t kPromptsMax = 1024;

  // Two workers died under it here.
  void add(const PromptDigest& prompt, Instant until);
  // Another gateway says so.
  void hear(const PromptDigest& prompt, Instant until);
  // Until when it is refused; nullopt: it is not.
  std::optional<Instant> until(const PromptDigest& prompt, Instant now) const;
  bool empty() const { return own_.empty() && heard_.empty(); }
  void expire(Instant now);
  // For the others: those of this gateway that end last.
  std::vector<RefusedPrompt> told(Instant now) const;
  // Grows with every own one.
  std::uint64_t told_version() const { return told_version_; }
  // Grows with every prompt that was not refused before, whoever refuses it.
  std::uint64_t version() const { return version_; }

 private:
  using Table = std::map<PromptDigest, Instant>;
  void put(Table& table, const PromptDigest& prompt, Instant until);

  Table own_;
  Table heard_;
  std::uint64_t told_version_ = 0;
  std::uint64_t version_ = 0;
};

}  // namespace orch::gateway
