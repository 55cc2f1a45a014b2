// Purpose: what finished reloads and restarts have made of the configured replicas, over restarts of this process
// (OC-POOL-3054). Files: `generations` in the state directory, a line for each place whose replica is not the
// configured one any more, replaced atomically and synced. Loop thread.
#pragma once

#include <vector>

#include "common/base/result.h"
#include "common/runtime/state_dir.h"
#include "pool-managerd/core/settings.h"

namespace orch::pool {

class Generations {
 public:
  // `configured`: the replicas as the configuration says, all of generation 0. `state_dir` outlives it.
  Generations(const runtime::StateDir& state_dir, std::vector<ReplicaSpec> configured)
      : state_dir_(state_dir), configured_(std::move(configured)) {}

  // The replicas to begin with. A place that has been configured anew since is as configured; so is one whose line
  // cannot be read.
  std::vector<ReplicaSpec> current() const;
  Status<runtime::StateDir::Error> store(const std::vector<ReplicaSpec>& replicas) const;

 private:
  const runtime::StateDir& state_dir_;
  std::vector<ReplicaSpec> configured_;
};

}  // namespace orch::pool
