// Names for the beginnings of a prompt: one per 512 bytes, each standing for everything before it too. Two prompts
// begin alike for as long as their chains do. Pure; stable over processes, builds and machines.
#pragma once

#include <cstdint>
#include <vector>

#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

using PrefixChain = std::vector<std::uint64_t>;

inline constexpr std::uint64_t kPrefixChunkBytes = 512;
inline constexpr std::size_t kPrefixChunksMax = 128;  // what stands behind the first 64 KiB is not named

// Roles and lengths of messages count like bytes of them: the template writes them out. A chunk that the prompt does
// not fill has no name.
PrefixChain prefix_chain(const Prompt& prompt);

}  // namespace orch::gateway
