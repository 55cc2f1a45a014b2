// How many replicas of a host may take from one memory, by what their pools' `device` keys say (OC-POOL-3065).
#pragma once

#include <string_view>
#include <vector>

#include "pool-managerd/core/settings.h"

namespace orch::pool {

// False only where the two keys cannot name devices with one memory. An integrated or software device shares the host's
// with `cpu`, which no key tells: such a pool wants a limit of its own.
bool may_share_memory(std::string_view device, std::string_view other);

// Fills in memory_sharers of every replica; one without a device takes nothing.
void count_memory_sharers(std::vector<ReplicaSpec>& replicas);

}  // namespace orch::pool
