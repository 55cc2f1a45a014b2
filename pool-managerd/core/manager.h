// Purpose: one host's pool manager as a state machine: step(event, now) -> effects. Keeps replicas alive (Replica), and
// grants their slots to orchestrators under DESIGN-RULES L1 to L7, L9, L10 (LeaseBook, divide_slots).
// Pure and deterministic: no clock, no I/O, iteration in the order of ids; secrets and jitter come from the
// EntropySource. Threads: one caller at a time. `now` must not go backwards.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "pool-managerd/core/attachments.h"
#include "pool-managerd/core/division.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/events.h"
#include "pool-managerd/core/fair_ledger.h"
#include "pool-managerd/core/known_gateways.h"
#include "pool-managerd/core/operation.h"
#include "pool-managerd/core/refused_prompts.h"
#include "pool-managerd/core/replica.h"
#include "pool-managerd/core/replica_sets.h"
#include "pool-managerd/core/settings.h"

namespace orch::pool {

class Manager {
 public:
  // `entropy` outlives the manager.
  Manager(Settings settings, EntropySource& entropy);
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  void step(const Event& event, Instant now, Effects& out);
  // When to send the next Tick at the latest; never() once everything has stopped.
  Instant next_wakeup() const;

  // --- inspection ---
  std::vector<ReplicaView> replicas(Instant now) const;                           // by replica id
  std::vector<std::pair<std::string, const WorkerReport*>> last_reports() const;  // of running workers
  const LeaseBook* book_of(const std::string& replica_id) const;
  const LeaseBook* book_of(Incarnation inc) const;  // of the life that is now
  std::vector<const LeaseBook*> books() const;      // of every replica that has a process, by replica id
  std::size_t open_leases(const std::string& replica_id) const;
  std::size_t attached() const { return attachments_.links().size(); }
  bool is_shut_down() const { return shut_down_; }
  std::vector<ReplicaSpec> specs() const;          // of the replicas there are now, by replica id
  std::vector<ReplicaSpec> lasting_specs() const;  // one of each place: what the next start is to begin with
  std::vector<Operation> operations() const;       // oldest first: at most Limits::operations_kept that have ended
  std::optional<Operation> operation(OperationId id) const;
  const Settings& settings() const { return settings_; }
  // Aborts when an invariant of DESIGN-RULES "Leases" is broken; for tests and the simulator, after any step.
  void check_invariants() const;

 private:
  using ReplicaMap = std::map<std::string, std::unique_ptr<Replica>>;

  void on(const ProcessStarted& event, Instant now, Effects& out);
  void on(const SpawnFailed& event, Instant now, Effects& out);
  void on(const ProcessExited& event, Instant now, Effects& out);
  void on(const WorkersFound& event, Instant now, Effects& out);
  void on(const InfoArrived& event, Instant now, Effects& out);
  void on(const InfoFailed& event, Instant now, Effects& out);
  void on(const WorkerReport& event, Instant now, Effects& out);
  void on(const ControlBroken& event, Instant now, Effects& out);
  void on(const AttachOpened& event, Instant now, Effects& out);
  void on(const HolderUpdate& event, Instant now, Effects& out);
  void on(const FairReported& event, Instant now, Effects& out);
  void on(const AttachClosed& event, Instant now, Effects& out);
  void on(const StartOperation& event, Instant now, Effects& out);
  void on(const Shutdown& event, Instant now, Effects& out);
  void on(const Tick& event, Instant now, Effects& out);

  // operations (manager_operations.cc)
  void refuse(const StartOperation& event, Outcome outcome, std::string message, std::string field, Effects& out);
  std::vector<std::string> replicas_of(const std::string& pool_id, const std::string& replica_id) const;
  std::vector<OpenOperation*> in_the_way(const StartOperation& event, const std::string& pool_id);
  std::string not_replaceable(OperationKind kind, const std::vector<std::string>& targets) const;
  void begin(OpenOperation& operation, Instant now, Effects& out);
  void begin_rollout(OpenOperation& operation);
  bool advance_operations(Instant now, Effects& out);
  bool advance(OpenOperation& operation, Instant now, Effects& out);
  bool advance_rollout(OpenOperation& operation, Instant now, Effects& out);
  bool next_replacement(OpenOperation& operation, Instant now, Effects& out);
  void give_up_successor(OpenOperation& operation, Instant now, Effects& out);
  void successor_removed(OpenOperation& operation, Instant now, Effects& out);
  void finish(OpenOperation& operation, std::string error, Instant now, Effects& out);
  void end_operations(const std::string& why, Instant now, Effects& out);
  void remove_replica(const std::string& replica_id, Instant now, Effects& out);

  Replica* replica_with(Incarnation inc);
  bool within_limits(const HolderUpdate& update, Effects& out);
  void take_renewals(const HolderUpdate& update, bool first, Effects& out);
  void take_releases(const HolderUpdate& update);
  void settle(Instant now, Effects& out);
  void settle_replicas(Instant now, Effects& out);
  void settle_leases(Replica& replica, Instant now, Effects& out);
  void lose_leases(Replica& replica, Effects& out);
  void stop_superseded(LeaseBook& book, Effects& out);
  void close_lease(LeaseBook& book, LeaseId id, bool stop, std::string reason, Effects& out);
  void announce(Replica& replica, const std::vector<LeaseBook::Announcement>& announcements, Instant now, Effects& out);
  void take_heard(const HolderUpdate& update, Instant now, Effects& out);

  struct PoolUse {
    std::uint32_t running = 0;
    std::uint32_t unused = 0;  // told of and not running
    Instant gained_at;
  };
  void grant_shares(Replica& replica, std::size_t index, Instant now);
  bool take_back_unused(Replica& replica, const std::vector<Bidder>& bidders, Instant now);
  std::vector<Bidder> bidders_for(const Replica& replica, Instant now) const;
  Demand demand_of(const Replica& replica, const Attachment& attachment, const Bid& bid, Instant now) const;
  Instant hungry_since(const Attachment& attachment, const std::string& pool_id) const;
  PoolUse use_of(const Holder& holder, const std::string& pool_id) const;
  bool is_fresh(const Attachment& attachment, Instant now) const;
  Duration patience_of(const Attachment& attachment) const;
  Duration hunger_limit(const Replica& replica) const;
  Instant unused_until(const Replica& replica, const Lease& lease) const;
  void note_division_wakeup(const Replica& replica, Instant now);
  std::uint32_t ready_replicas(const std::string& pool_id) const;
  void report_changes(Instant now, Effects& out);
  void report_loads(Instant now, Effects& out);
  void tell_others(Instant now, Effects& out);
  void tell_over(Effects& out);
  void send_others(LinkId link, std::vector<StartReport> starts, Instant now, Effects& out);
  Secret new_secret();

  Settings settings_;
  EntropySource& entropy_;
  Serials serials_;
  ReplicaSets sets_;
  ReplicaMap replicas_;
  std::map<OperationId, OpenOperation> open_operations_;
  std::deque<Operation> ended_operations_;  // newest last
  std::uint64_t last_operation_ = 0;
  Attachments attachments_;
  FairLedger ledger_;
  RefusedPrompts refused_;
  KnownGateways gateways_;
  Instant fair_wakeup_ = Instant::never();
  std::map<std::string, ReplicaView> reported_;  // what links were told last
  struct LoadTold {
    std::uint64_t reports = 0;  // of the replica, when it was told
    Instant at;
  };
  std::map<std::string, LoadTold> loads_told_;
  Instant load_wakeup_ = Instant::never();
  // Leases of each replica's incarnation that holders may know of, so that they can be told when the process is gone.
  std::map<std::string, std::map<LeaseId, Holder>> known_;
  std::map<std::string, Instant> contended_since_;  // by replica; absent: slack
  Instant division_wakeup_ = Instant::never();
  Instant promised_wakeup_ = Instant::never();
  bool shutting_down_ = false;
  bool shut_down_ = false;
};

}  // namespace orch::pool
