// The lease table as plain data: what a pool manager sends to a worker (LeaseTable in proto/orch/v1/worker.proto) and
// what the worker applies whole (DESIGN-RULES L2).
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"

namespace orch {

struct LeaseEntry {
  LeaseId id;
  Holder holder;
  std::uint32_t slots = 0;  // 0 is legal: admits nothing
  Secret secret{};
  std::uint64_t renewal_seq =
      0;              // the worker extends the lease by the table's ttl iff this is higher than the last it applied
  bool stop = false;  // running jobs of this lease stop at once (revoked, L7)
  constexpr auto operator<=>(const LeaseEntry&) const = default;
};

struct LeaseTable {
  TableVersion version;
  Duration ttl;
  std::vector<LeaseEntry> leases;  // a lease that is absent admits nothing more; its running jobs go on
};

struct LeaseUse {
  LeaseId id;
  std::uint32_t running = 0;
  constexpr auto operator<=>(const LeaseUse&) const = default;
};

}  // namespace orch
