// Purpose: everything the calls of one Worker service share: the lease arbiter, the running jobs, the manager's stream,
// the holders' streams and the self-check (DESIGN-RULES "Leases"). Threads: any; one mutex, never held while the
// engine, a job or a stream is called. run_timer() has its own thread. Ownership: shared by the calls and by jobs the
// engine has not ended yet; the engine must outlive it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "worker/core/engine_port.h"
#include "worker/lease/lease_arbiter.h"
#include "worker/shell/self_check.h"

namespace orch::worker {

class RunningJob {
 public:
  virtual ~RunningJob() = default;
  // The job ends with `why` as soon as the engine lets go of it.
  virtual void stop(EngineFailure why) = 0;
};

// The manager's stream, seen from the state.
class ControlLink {
 public:
  virtual ~ControlLink() = default;
  virtual void report_due() = 0;
  virtual void self_checked(SelfCheckVerdict verdict) = 0;
  virtual void replaced() = 0;  // a newer stream of the manager took its place
};

// A holder's stream, seen from the state.
class HolderLink {
 public:
  virtual ~HolderLink() = default;
  virtual void replaced() = 0;  // a newer stream of the holder took its place
};

// What ControlReport carries besides a self-check's verdict.
struct StateReport {
  TableVersion version;
  std::vector<LeaseUse> uses;
  std::uint32_t slots = 0;
  std::uint64_t jobs_ended = 0;
  std::uint64_t jobs_cut = 0;
  std::optional<Duration> drain_left;
  EngineCounters counters;
};

class WorkerState : public std::enable_shared_from_this<WorkerState> {
 public:
  struct Options {
    std::optional<std::string> control_secret;  // absent: no manager, no dispatch
    Duration self_check_limit = Duration::seconds(60);
    Duration orphan_grace{};              // L8: this long without a manager
    std::function<void()> on_orphaned{};  // once, on the timer's thread
  };

  WorkerState(GenerationEngine& engine, Options options);

  // First message of Control. A wrong secret is FORBIDDEN, another manager or incarnation CONFLICT.
  Status<EngineFailure> open_control(std::string_view secret, ManagerId manager, Incarnation inc,
                                     std::shared_ptr<ControlLink> link);
  void close_control(const ControlLink& link);  // leases run on to their TTL (L7)
  void apply(const LeaseTable& table);
  void drain(Duration deadline);
  void self_check(std::uint64_t id);
  StateReport report() const;
  LeaseTable table() const;
  // The manager that spawned this process is gone; another of its starts may open a control stream in time (L8).
  void lifeline_lost();

  // One stream per holder: a newer one ends the older. Its end stops the holder's jobs (L5).
  std::uint64_t open_hold(const Holder& holder, std::shared_ptr<HolderLink> link);
  std::uint32_t heartbeat(const Holder& holder);  // jobs of this holder
  void close_hold(const Holder& holder, std::uint64_t stream);

  Status<Outcome> admit(const Fence& fence, const Holder& holder, const DispatchId& id, std::uint32_t lease_slots,
                        std::shared_ptr<RunningJob> job);
  void ended(const DispatchId& id, JobEnd how);

  // Ends every job with `why` and accepts no more.
  void stop_all(const EngineFailure& why);
  bool idle() const;

  void run_timer();  // until close()
  void close();

 private:
  struct ToStop {
    std::shared_ptr<RunningJob> job;
    EngineFailure why;
  };

  std::vector<ToStop> take_stops(Instant now);  // mutex_ held
  Duration report_every() const;                // mutex_ held
  Instant next_wakeup(Instant now) const;       // mutex_ held
  bool became_orphan(Instant now);              // mutex_ held
  void tick(std::unique_lock<std::mutex>& lock);
  void wake();
  static void stop(std::vector<ToStop> stops);

  GenerationEngine& engine_;
  const Options options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  bool refusing_ = false;
  bool woken_ = false;
  LeaseArbiter arbiter_;
  Duration ttl_ = Duration::seconds(15);  // until the first table says
  Instant next_report_;
  std::map<DispatchId, std::shared_ptr<RunningJob>> jobs_;
  struct Hold {
    std::uint64_t stream = 0;
    std::shared_ptr<HolderLink> link;
  };
  std::map<Holder, Hold> holds_;  // the stream of each holder that has one open
  std::uint64_t last_hold_ = 0;
  std::shared_ptr<ControlLink> control_;
  bool lifeline_lost_ = false;
  Instant orphan_since_ = Instant::never();  // without lifeline and control stream
  std::optional<std::uint64_t> self_check_asked_;
  std::unique_ptr<SelfCheck> self_check_;  // touched by the timer thread only
};

// Compares every byte whatever the first difference; the length is no secret.
bool same_secret(std::string_view left, std::string_view right);

}  // namespace orch::worker
