// What memory there is of one device, or of the host. Plain value; bytes, 0: not known.
#pragma once

#include <cstdint>

namespace orch::worker {

struct DeviceMemory {
  std::uint64_t free_bytes = 0;   // now
  std::uint64_t total_bytes = 0;  // whoever holds it
};

}  // namespace orch::worker
