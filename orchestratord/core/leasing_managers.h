// The managers whose leases this gateway's journaled jobs may run under, as far as the journal knows them: a later life
// has to ask each of them what is left (OC-MIGR-M1). No journaled job goes to another one.
//
// Threads: owned by the core's loop. Bounds: those of the fleet, and of what an earlier life left until that is over.
#pragma once

#include <map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/journal_records.h"

namespace orch::gateway {

class LeasingManagers {
 public:
  // What the journal holds at the start.
  void found(const std::vector<LeasingManager>& managers);
  // It grants leases of that life.
  void grants(ManagerId manager, Duration ttl);
  template <typename IsNeeded>
  void forget_unless(IsNeeded is_needed) {
    std::erase_if(wanted_, [&](const auto& entry) { return !is_needed(entry.first); });
  }
  // Durable, with leases that live at least as long.
  bool known(ManagerId manager, Duration ttl) const;

  bool due() const { return !under_way_ && wanted_ != durable_; }
  ManagersRecord write();
  void written(bool committed);

 private:
  using Lives = std::map<ManagerId, Duration>;
  Lives wanted_;
  Lives sent_;
  Lives durable_;  // whatever becomes of the write that is under way
  bool under_way_ = false;
};

}  // namespace orch::gateway
