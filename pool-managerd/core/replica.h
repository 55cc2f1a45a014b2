// Purpose: the life of one replica: spawn, load, prove readiness, watch progress, drain, restart (OC-POOL-3001 to 3003,
// 3011; ORCH-3049; DESIGN-RULES L6, L9 and "Health is progress"). Pure: asks for everything by effects. Ownership: owns
// the lease book of the current incarnation; who gets which slot is decided by Manager.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/time.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/events.h"
#include "pool-managerd/core/job_times.h"
#include "pool-managerd/core/lease_book.h"
#include "pool-managerd/core/replica_sets.h"
#include "pool-managerd/core/restart_schedule.h"
#include "pool-managerd/core/settings.h"

namespace orch::pool {

// Counters of one manager start; with its boot they make incarnations, leases and table versions (L1).
struct Serials {
  std::uint64_t inc = 0;
  std::uint64_t lease = 0;
  std::uint64_t table = 0;
  std::uint64_t self_check = 0;
  Instant next_restart;  // OC-POOL-3011: replicas that fail together do not start together
};

class Replica {
 public:
  // `settings`, `serials`, `sets` and `entropy` outlive the replica.
  Replica(const ReplicaSpec& spec, const Settings& settings, Serials& serials, ReplicaSets& sets,
          EntropySource& entropy);

  void on(const ProcessStarted& event, Instant now, Effects& out);
  void on(const SpawnFailed& event, Instant now, Effects& out);
  void on(const ProcessExited& event, Instant now, Effects& out);
  void on(const InfoArrived& event, Instant now, Effects& out);
  void on(const InfoFailed& event, Instant now, Effects& out);
  void on(const ControlBroken& event, Instant now, Effects& out);
  // L8: in place of a spawn. Nothing is granted before the worker has shown its table and acked one of this boot.
  void adopt(const WorkerFound& found, Instant now, Effects& out);
  // Announcements are for the holders; the caller sends them.
  std::vector<LeaseBook::Announcement> on(const WorkerReport& event, Instant now, Effects& out);
  // Not started again before undrain(). A second one may only shorten the deadline.
  void drain(Duration deadline, DrainReason reason, Instant now, Effects& out);
  // Wanted again: a new life begins once the last one is over. A worker that was told to drain takes no more work, so
  // it does not come back. Closes the breaker of one that failed (OC-POOL-3051).
  void undrain(Instant now);
  // Says why it has not been replaced; it serves on (OC-POOL-3053).
  void stays(std::string why);

  // Everything that is due by time.
  void tick(Instant now, Effects& out);
  // Sends the table when it changed and the worker can take it.
  void flush_table(Instant now, Effects& out);
  Instant next_wakeup() const;
  // This process itself stood still: silence until now proves nothing about the worker.
  void forgive_silence(Instant now);

  const ReplicaSpec& spec() const { return spec_; }
  ReplicaState state() const { return state_; }
  Incarnation inc() const { return life_ ? life_->inc : last_inc_; }
  bool has_process() const { return life_.has_value(); }
  bool is_drained() const { return !wanted_ && !life_; }
  bool is_wanted() const { return wanted_; }
  std::uint32_t failures() const { return failures_; }           // ever
  const std::string& last_error() const { return last_error_; }  // its own
  std::uint32_t jobs_cut() const { return jobs_cut_; }           // by the last drain (OC-POOL-3059)
  bool is_adopting() const { return life_ && (life_->adopting || (life_->proven && state_ != ReplicaState::ready)); }
  // Leases may be granted.
  bool grants() const { return state_ == ReplicaState::ready; }
  // L7: as the book says; nothing is said of a worker whose table is not known yet.
  bool is_over_before(const Holder& holder) const {
    return life_ && !life_->adopting && life_->book.is_over_before(holder);
  }
  LeaseBook* book() { return life_ ? &life_->book : nullptr; }
  const LeaseBook* book() const { return life_ ? &life_->book : nullptr; }
  ReplicaView view(Instant now) const;
  // Of jobs that ended lately; 0 while none has.
  Duration mean_job_time() const { return job_times_.mean(); }
  const std::optional<WorkerReport>& last_report() const { return last_report_; }
  const KvMemory& kv() const { return kv_; }
  std::uint64_t reports() const { return reports_; }  // ever

 private:
  // One process, from the request to spawn it until it is reaped.
  struct Life {
    Incarnation inc;
    LeaseBook book;
    Instant spawned;
    bool started = false;
    bool adopting = false;    // its table has not come yet
    bool proven = false;      // adopted with leases: it was ready before
    bool controlled = false;  // a Control stream is open or being opened
    bool heard = false;       // any report yet
    Instant last_heard;
    Instant query_at = Instant::never();
    Instant connect_at = Instant::never();
    bool informed = false;       // its own facts have come
    std::uint64_t check_id = 0;  // 0: no self-check sent
    Instant check_deadline = Instant::never();
    std::uint64_t tokens_before_check = 0;
    std::uint64_t steps_done = 0;
    std::uint64_t waits_done = 0;
    Instant progressed;
    Duration step_longest;
    bool ending = false;                        // to be gone: nothing but its exit counts
    bool forgiven = false;                      // undrained since: how it ends decides nothing
    FailureClass failure = FailureClass::none;  // why it is to be gone; none: it is not wanted any more
    Instant term_at = Instant::never();
    Instant kill_at = Instant::never();
  };

  bool is_current(Incarnation inc) const { return life_ && life_->inc == inc; }
  void change_state(ReplicaState to, Effects& out);
  void spawn(Instant now, Effects& out);
  void connect(Instant now, Effects& out);
  void go_on_draining(Duration left, Instant now, Effects& out);
  void close_adopted();
  void advance_readiness(Instant now, Effects& out);
  bool identity_holds(Instant now, Effects& out);
  bool set_holds(Instant now, Effects& out);
  void take_facts(const WorkerFacts& facts);
  void take_memory(const WorkerReport& report);
  void judge_self_check(const WorkerReport& report, Instant now, Effects& out);
  void check_limits(Instant now, Effects& out);
  void check_drain(Instant now, Effects& out);
  void end_drain(Instant now, Effects& out);
  void become_ready(Instant now, Effects& out);

  enum class Remedy : std::uint8_t { retry, give_up };
  void fail(FailureClass failure, std::string message, Remedy remedy, Instant now, Effects& out);
  void end_process(Instant term_at, Instant now, Effects& out);
  void kill(Effects& out);
  Instant stall_deadline() const;
  Instant next_start() const;
  std::string exit_text(const ProcessExited& event) const;

  ReplicaSpec spec_;
  const Settings& settings_;
  Serials& serials_;
  ReplicaSets& sets_;
  EntropySource& entropy_;
  RestartSchedule schedule_;

  ReplicaState state_ = ReplicaState::stopped;
  std::optional<Life> life_;
  Incarnation last_inc_;
  bool wanted_ = true;  // else drained: not to be started
  Instant drain_until_ = Instant::never();
  Instant start_at_;  // in stopped, backoff and failed
  FailureClass last_failure_ = FailureClass::none;
  std::string last_error_;
  std::string not_replaced_;            // why, since it was ready last
  std::optional<ProcessEnd> last_end_;  // survives errors, lives and readiness (OC-POOL-3058)
  std::string endpoint_;
  std::int64_t pid_ = 0;
  WorkerFacts facts_;
  std::optional<WorkerReport> last_report_;
  KvMemory kv_;                            // its size is kept between two lives, like facts_
  std::uint64_t kv_saturated_before_ = 0;  // of the lives that are over
  std::uint64_t reports_ = 0;
  JobTimes job_times_;
  std::uint32_t spawns_ = 0;
  std::uint32_t failures_ = 0;
  std::uint32_t jobs_cut_ = 0;
  bool was_ready_ = false;
};

}  // namespace orch::pool
