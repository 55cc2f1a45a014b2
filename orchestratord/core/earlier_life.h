// What the earlier lives of this gateway may still have running, and for how long at most (OC-MIGR-M1). Nobody saw
// where a job without a record was sent. It may have gone to any worker of the managers whose leases those lives had;
// so it is over when each of these says of each of its processes that nothing of an earlier start is left there.
//
// Threads: owned by the core's loop. Bounds: managers_max managers, and one entry per replica of theirs that was named.
#pragma once

#include <map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/fleet.h"
#include "orchestratord/core/journal_records.h"

namespace orch::gateway {

class EarlierLife {
 public:
  // `ttl`: of leases of which the journal does not know how long they live.
  void left(const std::vector<LeasingManager>& managers, Duration ttl, Instant now);
  // A manager's word of one process.
  void over_at(const ReplicaKey& replica, Incarnation inc) {
    if (!over_) words_[replica] = inc;
  }
  // Whether nothing of them runs anywhere; once so, for ever.
  bool is_over(const Fleet& fleet, Instant now);
  bool over() const { return over_; }  // as looked at last
  // When nothing under that manager's leases runs any more, whatever anybody says.
  Instant until(ManagerId manager) const;
  Instant until() const { return over_ ? Instant::never() : until_; }

 private:
  bool is_over_at(ManagerId manager, const Fleet& fleet) const;

  bool over_ = true;
  Instant from_;
  Instant until_;
  Duration ttl_;
  std::map<ManagerId, Duration> managers_;  // by the life of their leases
  std::map<ReplicaKey, Incarnation> words_;
};

}  // namespace orch::gateway
