// What the scripted engine says: a pure function of the job, so that every reader can be checked against it byte by
// byte and a token of another attempt, of another job or out of order is seen wherever it surfaces.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/ids.h"

namespace orch::sim {

inline std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

inline std::uint32_t script_length(JobId job, std::uint32_t max_tokens) {
  const std::uint64_t roll = mix(job.value.lo);
  const bool is_long = roll % 24 == 0;  // outlives a TTL
  const std::uint32_t wanted =
      is_long ? 100 + static_cast<std::uint32_t>(roll / 24 % 200) : 1 + static_cast<std::uint32_t>(roll / 24 % 14);
  return wanted < max_tokens ? wanted : max_tokens;
}
inline std::string script_text(JobId job, std::uint32_t index) {
  return std::to_string(mix(job.value.lo * 31 + index) % 1000) + ":" + std::to_string(index) + " ";
}
inline bool script_holds_back(JobId job, std::uint32_t index) { return mix(job.value.lo * 13 + index) % 9 == 0; }
inline std::uint32_t script_token(JobId job, std::uint32_t index) {
  return static_cast<std::uint32_t>(mix(job.value.lo * 17 + index) % 49152);
}
// Of its prompt, wherever it is computed.
inline std::uint32_t script_cached(JobId job, std::uint32_t prompt_tokens) {
  return mix(job.value.lo * 19) % 3 == 0 ? prompt_tokens - 1 : 0;
}
// M6: whoever computes one of these dies of it.
inline constexpr std::uint64_t kPlainJobs = 0x51;
inline constexpr std::uint64_t kPoisonJobs = 0x50;
inline bool script_is_poison(JobId job) { return job.value.hi == kPoisonJobs; }

}  // namespace orch::sim
