// Purpose: decides at the worker which dispatches run. The manager's lease table says who may start work, heartbeats of
// the holder keep it running (DESIGN-RULES L2, L3, L5). Pure: `now` is a parameter and must not go backwards. Threads:
// none of its own; the owner serialises calls. Ownership: plain values, copies of what it is given. Bounds: leases_max
// leases per table, attempts_max remembered attempts, holders of live leases and jobs only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "gen/outcome.h"

namespace orch {
struct LeaseStateProbe;
}

namespace orch::worker {

// What its caller got: the whole answer, or an error in its place.
enum class JobEnd : std::uint8_t { finished, failed };

class LeaseArbiter {
 public:
  struct Options {
    std::uint32_t slots = 0;  // declared concurrent jobs
    std::size_t leases_max = 4096;
    // Accepted (job, attempt) pairs that are remembered. Beyond it the oldest that has ended is forgotten: a duplicate
    // can pass only if it is older than this many later dispatches and still carries a live fence.
    std::size_t attempts_max = 65536;
  };

  enum class Applied : std::uint8_t {
    ok,
    stale,      // version not higher than the last applied: ignored
    malformed,  // too many leases, an id twice, or an id with another holder or secret: ignored
  };

  enum class StopReason : std::uint8_t {
    revoked,        // the table says stop (L7)
    holder_silent,  // no heartbeat for TTL (L5)
    holder_broken,  // the holder's stream broke (L5)
    drain_over,     // the drain deadline passed (L9)
  };
  struct Stop {
    DispatchId dispatch;
    StopReason reason = StopReason::revoked;
  };

  explicit LeaseArbiter(Options options);

  // Who this worker belongs to: the first ControlHello. False: already bound to another manager or incarnation.
  bool bind(ManagerId manager, Incarnation inc);
  bool is_bound() const { return bound_; }

  // The whole table. A lease that is new, or whose renewal_seq rose, ends at now + ttl.
  Applied apply(const LeaseTable& table, Instant now);
  TableVersion version() const { return version_; }

  // Ok: the dispatch runs from now on, until ended(). Refusals: STALE_LEASE, DUPLICATE_ATTEMPT, SLOT_BUSY.
  // `known_slots`: the lease's size as its holder knows it. The table may be ahead of that (S3), and a call that the
  // holder gave up may still run here: its slot is not idle, and what the table has beyond is not the holder's yet.
  Status<Outcome> admit(const Fence& fence, const Holder& holder, const DispatchId& dispatch, Instant now,
                        std::uint32_t known_slots = std::numeric_limits<std::uint32_t>::max());
  // The engine is done with it, however it ended. Unknown: no effect.
  void ended(const DispatchId& dispatch, JobEnd how);

  void heartbeat(const Holder& holder, Instant now);
  // The holder's stream broke: its running jobs are to stop. Not for a stream that a newer one of the same holder
  // replaced.
  void holder_broken(const Holder& holder);

  // No dispatch is admitted any more; jobs still running at `deadline` are to stop (L9).
  void begin_drain(Instant deadline);
  // Until that deadline; nullopt: nobody told it to drain.
  std::optional<Duration> drain_left(Instant now) const;
  // Declared slots may change after loading or on memory pressure; running jobs stay.
  void set_slots(std::uint32_t slots) { options_.slots = slots; }
  std::uint32_t slots() const { return options_.slots; }

  // Jobs whose right to run has ended; each is named once.
  std::vector<Stop> jobs_to_stop(Instant now);
  // When jobs_to_stop() may next have something to say by time alone.
  Instant next_wakeup() const;

  // Leases with running > 0, whether or not still in the table, by id.
  std::vector<LeaseUse> uses() const;
  std::uint32_t running() const { return static_cast<std::uint32_t>(jobs_.size()); }
  std::uint32_t running_of(const Holder& holder) const;
  std::uint64_t jobs_ended() const { return jobs_ended_; }
  // Of them, those that failed because the drain deadline had passed (OC-POOL-3059).
  std::uint64_t jobs_cut() const { return jobs_cut_; }

  // What a manager that comes back must know (L8): the table as it was applied last.
  LeaseTable table() const;

 private:
  friend struct orch::LeaseStateProbe;  // the explicit-state check tells states apart by it
  struct Lease {
    LeaseEntry entry;
    Instant end;
  };
  struct Job {
    LeaseId lease;
    Holder holder;
    Instant admitted;
    std::optional<StopReason> stop;  // set once its right to run has ended
    bool named = false;              // already returned by jobs_to_stop()
  };

  bool well_formed(const LeaseTable& table) const;
  Instant alive_until(const Job& job) const;
  void remember(const DispatchId& dispatch);
  void forget_idle_holders();

  Options options_;
  bool bound_ = false;
  ManagerId manager_;
  Incarnation inc_;
  TableVersion version_;
  Duration ttl_;
  std::map<LeaseId, Lease> leases_;
  std::map<DispatchId, Job> jobs_;
  std::map<LeaseId, std::uint32_t> running_;
  std::map<Holder, Instant> beats_;
  std::set<DispatchId> attempts_;
  std::deque<DispatchId> attempt_order_;
  Instant drain_deadline_ = Instant::never();
  bool draining_ = false;
  std::uint64_t jobs_ended_ = 0;
  std::uint64_t jobs_cut_ = 0;
};

}  // namespace orch::worker
