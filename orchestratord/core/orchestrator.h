// The gateway's decisions: which job is admitted, where it waits, which worker gets it, and what its client is told.
// One step(event, now) -> effects over plain data; the shell turns I/O into events and effects into I/O, the simulator
// likewise.
//
// Threads: owned by one loop; no locks. Units: Instants of the caller's clock, which never goes back. Errors: every
// refusal is an effect; input never aborts. Invariants (check_invariants):
//   1. every admitted job gets exactly one terminal event, and none follows it (ORCH-3017, ORCH-3026);
//   2. a job is in the queue iff it is waiting; it holds a dispatch iff it is dispatching or running;
//   3. per lease, calls in flight = slots in use <= slots at the time of dispatch, and no dispatch at or after the
//   holder's end (L3, L4);
//   4. tokens of a closed (fence, attempt) change nothing (L10);
//   5. queue, streams, finished jobs, links, leases, journal writes and keys stay inside limits.h;
//   6. nobody is told of a journaled job before its admission is durable, nor of its end before that is (J1).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "orchestratord/core/budget_ledger.h"
#include "orchestratord/core/decision_log.h"
#include "orchestratord/core/drain_rates.h"
#include "orchestratord/core/earlier_life.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"
#include "orchestratord/core/fair_scheduler.h"
#include "orchestratord/core/fleet.h"
#include "orchestratord/core/job.h"
#include "orchestratord/core/job_queue.h"
#include "orchestratord/core/journal.h"
#include "orchestratord/core/lease_table.h"
#include "orchestratord/core/leasing_managers.h"
#include "orchestratord/core/limits.h"
#include "orchestratord/core/model_lifecycle.h"
#include "orchestratord/core/on_time.h"
#include "orchestratord/core/open_requests.h"
#include "orchestratord/core/other_gateways.h"
#include "orchestratord/core/other_starts.h"
#include "orchestratord/core/overtaking.h"
#include "orchestratord/core/prefix_index.h"
#include "orchestratord/core/quarantine.h"
#include "orchestratord/core/quota_book.h"
#include "orchestratord/core/result_shelf.h"
#include "orchestratord/core/service_shares.h"
#include "orchestratord/core/service_times.h"
#include "orchestratord/core/session_book.h"
#include "orchestratord/core/stream_registry.h"
#include "orchestratord/core/tenants.h"

namespace orch::gateway {

// Things that are right to ignore and worth counting.
struct Ignored {
  std::uint64_t closed_fence = 0;  // worker events of a closed (fence, attempt) (L10)
  std::uint64_t unknown_dispatch = 0;
  std::uint64_t unknown_link = 0;
  std::uint64_t grants = 0;  // for an update never sent, already over, or for another incarnation
  std::uint64_t duplicate_tokens = 0;
};

class Orchestrator {
 public:
  explicit Orchestrator(const Config& config);

  // Appends to `out`; never clears it. `now` must not be earlier than in the call before.
  void step(const Event& event, Instant now, Effects& out);

  // When the next Tick is due; never() when nothing waits for time to pass.
  Instant next_wakeup() const { return wakeup_; }

  // --- inspection: reads only, for /v1/models, /readyz, metrics, tests and the simulator ---
  const Config& config() const { return config_; }
  const Fleet& fleet() const { return fleet_; }
  const LeaseTable& leases() const { return leases_; }
  const JobQueue& queue() const { return queue_; }
  const FairScheduler& fairness() const { return scheduler_; }
  const Tenants& tenants() const { return tenants_; }
  const QuotaBook& quotas() const { return quotas_; }
  const OpenRequests& open_requests() const { return open_requests_; }
  const ServiceShares& shares() const { return shares_; }
  const BudgetLedger& budgets() const { return budgets_; }
  // Of a tenant as its key names it; an empty session: of the tenant alone.
  BudgetLeft budget_left(const std::string& tenant, const std::string& session, Instant now) const;
  // F4: when other gateways were heard of last; nullopt: never.
  std::optional<Instant> others_heard_at() const { return others_heard_at_; }
  const StreamRegistry& streams() const { return streams_; }
  const ServiceTimes& service_times() const { return times_; }
  const PrefixIndex& prefixes() const { return prefixes_; }
  const DecisionLog& decisions() const { return decisions_; }
  const ModelLifecycle& lifecycle() const { return lifecycle_; }
  const OtherGateways& other_gateways() const { return other_gateways_; }
  const Journal& journal() const { return journal_; }
  const IdempotencyKeys& keys() const { return keys_; }
  const Ignored& ignored() const { return ignored_; }
  const Job* find_job(JobId id) const;
  const std::map<JobId, Job>& jobs() const { return jobs_; }
  // OC-TENANT-1006: is it a job of this tenant, as its key names it? nullopt: an operator, who may see all.
  bool may_see(JobId job, const std::optional<std::string>& tenant) const;
  bool may_see_decisions(JobId job, const std::optional<std::string>& tenant) const;
  std::uint32_t in_flight() const;
  // Jobs that wait for the end of an attempt (M1) or for a replica of their own (M6).
  std::size_t held_back() const { return fence_waits_.size() + suspects_.size(); }
  bool draining() const { return drain_end_.has_value(); }
  bool drained() const { return drained_; }

  // The first broken invariant in words; empty: none. O(n).
  std::string check_invariants() const;

 private:
  std::string check_queue_bounds() const;
  struct Call {  // one dispatch until its stream has ended
    LeaseKey lease;
    Fence fence;
    ReplicaKey replica;
    std::string model;
    Instant expected_end;
    std::uint32_t lease_slots = 0;    // as known when it was sent
    bool answered = false;            // by its worker: it has been admitted
    std::uint64_t cached_tokens = 0;  // of its prompt, believed to be there already
    std::uint64_t kv_pages = 0;       // that it is expected to need
    std::uint64_t admitted_at = 0;    // version of its replica's memory when it was admitted; 0: it has not been
    bool open = true;                 // false: cancelled or given up; only its end is of interest
    Instant closed_at = Instant::never();
  };
  struct Failing {
    Failure failure;
    std::string cancel_reason;
  };

  // requests by their heads (orchestrator_requests.cc)
  using KeyDigest = IdempotencyKeys::Digest;
  void on(const RequestHead& event);
  void on(const RequestDropped& event);
  std::optional<Failure> begin_quota(const std::string& tenant, const KeyDigest* key, QuotaHold& hold);
  void give_up(RequestId request);
  void give_up_overdue();
  QuotaHold reserved_by(RequestId request, const std::string& tenant);

  // clients (orchestrator_clients.cc)
  void on(const Submit& event);
  void on(const TokensCounted& event);
  void on(const OpenStream& event);
  void on(const ReaderDrained& event);
  void on(const JournalRead& event);
  void on(const ReaderGone& event);
  void on(const CancelJob& event);
  void on(const Tick& event);
  void on(const DrainBegin& event);

  // models (orchestrator_models.cc)
  void on(const SetModelState& event);
  void on(const RollBackModel& event);
  void load_and_unload();
  void note_loaded();
  std::optional<Failure> route_model(const JobSpec& spec, std::string& version) const;
  void refuse(RequestId request, const JobSpec& spec, Failure failure);
  void refuse_admitting(Job& job, Failure failure);
  void finish_admission(Job& job);
  void admit(Job& job);
  std::optional<Room> make_room(Job& job);
  void evict(JobId victim, const Job& newcomer, bool by_quota);
  Failure eviction_of(const Job& victim, const Job& newcomer, bool by_quota);
  void enqueue(Job& job);
  void unqueue(Job& job);  // when it waits
  void cancel(Job& job, const std::string& reason, std::string message);

  // results (orchestrator_results.cc)
  void trim_finished();
  void let_go(JobId id);
  void read_out(JobId id);
  // Of this tenant, or anybody's: it ended here and made room for others.
  bool was_dropped(JobId job, const std::optional<std::string>& tenant) const;
  Failure missing_task(const OpenStream& event) const;
  std::string dropped_message() const;

  // preemption (orchestrator_preempt.cc)
  Job* next_of(const std::string& model, Priority priority);
  bool saved_by_a_slot(const Job& job, Instant next_slot, Duration after) const;
  Instant next_free_slot(const std::string& model) const;
  bool take_the_turn(const std::string& model);
  Job* preemptable_for(const Job& job);
  bool may_preempt();
  void preempt_dispatched(const std::string& model);
  void preempt(Job& victim, const Job& by);
  void tell_preempted(const JobId& job);
  void stopped(DispatchId dispatch);

  // tenants (orchestrator_tenants.cc)
  void on(const TenantsChanged& event);
  void on(const OthersReported& event);
  void on(const GatewaysTold& event);
  void hear_start(const OthersNews& news);
  FairReport own_report() const;
  void send_fair();
  std::uint64_t fair_version() const {  // each only grows
    return scheduler_.version() + quotas_.version() + quarantine_.told_version();
  }
  void note_quota(const std::string& tenant, const QuotaRefusal& refusal);
  Failure quota_failure(const std::string& tenant, const QuotaRefusal& refusal) const;
  std::optional<Failure> class_failure(const JobSpec& spec) const;
  std::optional<Failure> reserve_tokens(Job& job);
  std::uint32_t weight_of(const std::string& tenant) const;
  void start_meter(Job& job);
  void stop_meter(Job& job);
  void note_input(Job& job, std::uint32_t tokens, std::uint32_t cached);
  void note_output(Job& job, std::uint64_t tokens);
  bool capped(const std::string& tenant) const;

  // budgets (orchestrator_budgets.cc)
  void on(const EndSession& event);
  BudgetLedger::Account budget_account(const JobSpec& spec) const;
  BudgetUse budget_wanted(const Job& job) const;
  std::optional<Failure> reserve_budget(Job& job);
  void settle_budget(Job& job, const NotedEnded& noted, Duration held);
  void restore_budget(Job& job, const StreamEvent* terminal);

  // managers (orchestrator_managers.cc)
  void on(const ManagerUp& event);
  void on(const ManagerDown& event);
  void on(const ReplicaChanged& event);
  void on(const ReplicaGone& event);
  void on(const LeaseGranted& event);
  void on(const LeaseRevoked& event);
  void replica_is_now(ManagerId manager, const ReplicaView& replica);
  void replica_is_no_more(ManagerId manager, const std::string& replica_id);
  void end_hopeless_jobs();
  void send_updates();
  void send_update(LinkId id, Link& link, bool renew);
  std::vector<PoolBid> bids_for(ManagerId manager) const;
  std::vector<LeaseUse> beyond_of(ManagerId manager) const;
  void add_waiting(const std::string& model, const std::vector<const ReplicaView*>& replicas, PoolBid& bid) const;
  void beat_workers();

  // workers (orchestrator_workers.cc)
  void on(const DispatchStarted& event);
  void on(const DispatchTokens& event);
  void on(const DispatchFinished& event);
  void on(const DispatchFailed& event);
  void on(const DispatchBroken& event);
  Job* job_of_open_call(DispatchId dispatch, const Fence& fence);
  void dispatch_waiting();
  bool dispatch_one(const std::string& model);
  bool dispatch_of(const std::string& tenant, Priority priority, const std::set<Lane>& open);
  bool place_any(const Lane& lane);
  // `only`: on this replica, which is the job's own (M6).
  PlacementDecision place(Job& job, const ReplicaKey* only = nullptr);
  std::array<Duration, 4> service_by_fill(const Job& job, std::uint64_t cached_tokens) const;
  void dispatch(Job& job, PlacementDecision decision);
  void close_call(DispatchId dispatch);  // cancels it; its slot is held until its end is reported
  void call_ended(DispatchId dispatch);
  void worker_lost(DispatchId dispatch, const Call& old, const std::string& why);
  void attempt_lost(Job& job, Outcome outcome, const std::string& why);
  void put_back(Job& job, Outcome outcome);
  void back_to_queue(Job& job);

  // KV memory of the replicas (orchestrator_memory.cc)
  void on(const ReplicaLoaded& event);
  static std::uint64_t prompt_now(const Job& job);
  static std::uint64_t expected_tokens(const Job& job);
  void note_admitted(Call& call);
  void note_lacks_memory(Job& job, const LeaseKey& roomiest);
  const ReplicaKey* held_from(const Job& job);

  // beginnings of prompts (orchestrator_prefixes.cc)
  static const PrefixChain& prefix_of(Job& job);
  std::vector<WarmStart> warm_starts(Job& job);
  std::optional<bool> kv_warmth(Job& job, const ReplicaKey& replica) const;
  void note_prefix(Job& job, const Call& call, const DispatchStarted& event);

  // migration (orchestrator_migration.cc)
  bool may_continue(const Job& job) const;
  void continue_elsewhere(Job& job, Outcome outcome);
  // In doubt: by the end of an earlier life. It counts as a loss until its worker is known to have outlived it.
  enum class AttemptEnd : std::uint8_t { lost, taken_back, in_doubt };
  void wait_for_fence(Job& job, const Call& old, AttemptEnd how);
  void wait_if_put_back(JobId id, const Call& old, AttemptEnd how);
  void fenced(ManagerId manager, const ReplicaView& replica);
  bool may_dispatch(const Job& job) const;
  bool attempt_may_begin(const Job& job) const;
  void end_fence_waits();
  void fail_lost(Job& job);
  std::string check_migration() const;

  // the workers a job was aboard, across lives (orchestrator_aboard.cc)
  void note_aboard(Job& job);
  AboardRecord aboard_of(const Job& job) const;
  bool boarded(Job& job, const LeaseKey& lease);
  bool restore_aboard(Job& job, const std::optional<AboardRecord>& found);
  void doubt_over(Job& job, bool died, bool outlived);
  void on(const EarlierOver& event);
  void end_earlier_life();

  // poison (orchestrator_poison.cc)
  static bool died_by_itself(const ReplicaView& replica, Incarnation inc);
  bool note_death(Job& job);
  bool could_serve(const Job& job, const PlacementIndex::Entry& entry) const;
  bool could_serve(const Job& job, const ReplicaKey& replica);
  void restore_quarantine(const Job& job, const StreamEvent& terminal);
  std::optional<Failure> quarantined(const JobSpec& spec, const std::string& model);
  void hear_refused(const std::vector<RefusedPrompt>& refused);
  void end_refused_jobs();
  void forget_suspect(JobId job);
  const ReplicaKey* replica_of_its_own(const Job& job);
  void dispatch_suspects();
  std::size_t calls_on(const ReplicaKey& replica) const;
  std::string check_suspects() const;

  void accept_tokens(Job& job, const DispatchTokens& event);
  void note_recomputed(Job& job);

  bool show(Job& job, std::string text);

  // journal (orchestrator_journal.cc)
  void on(const JournalCommitted& event);
  void on(const JournalFailed& event);
  void on(const Recovered& event);
  bool is_journaled(const JobSpec& spec) const;
  bool answered_by_key(const Submit& event);
  void answer_repeat(Job::Repeat repeat, const std::string& tenant, JobId job, const StartedEvent& admitted);
  Failure journal_failure() const;
  void commit_admission(Job& job, const Room& room);
  void committed(const JournalItem& item);
  void not_committed(const JournalItem& item);
  void take_back(Job& victim);
  void cancel_if_asked(Job& job);
  bool left_before_admission(Job& job, ReaderId reader);
  void hold_for_dispatch_record(Job& job);
  void note_token(Job& job);
  void stage_end(Job& job);
  void write_journal();
  void write_jobs(const std::set<JobId>& jobs);
  void append_records(Job& job, std::vector<JournalRecord>& records, std::vector<JournalItem>& items);
  void recover(const RecoveredJob& recovered);
  std::string check_journal() const;

  // predictions and promises (orchestrator_forecast.cc)
  struct DomainLoad {  // of the replicas a lane may use
    std::uint32_t slots = 0;
    std::uint32_t busy = 0;
    Duration until_ready;
  };
  static OnTimeRecord::Position position_in_time(const Job& job);
  DomainLoad domain_load(const Lane& lane) const;
  double own_slots(const Job& job, const DomainLoad& load) const;
  SelfTestRates self_test_rates(const Lane& lane) const;
  void predict_service(Job& job, const DomainLoad& load) const;
  Duration start_behind(const Job& job, const DomainLoad& load, const LineKey& key, bool overtaken) const;
  void predict(Job& job) const;
  std::optional<Failure> deadline_failure(const Job& job) const;
  void log_admitted(const Job& job);
  void log_refused(const JobSpec& spec, const Failure& failure);
  void note_left_queue(const Job& job);
  void note_dispatched(Job& job, const HeldLease& lease, const ReplicaView& replica);
  void forget_expected_end(const std::string& model, Instant expected_end, DispatchId dispatch);
  void note_served(const Job& job, const DispatchFinished& event, const std::optional<ReplicaKey>& replica);
  void note_outcome(const Job& job, const Conclusion& conclusion);
  Duration retry_after(const Job& job) const;

  // ends and time (orchestrator.cc)
  void end(Job& job, const EndEvent& event);
  void fail(Job& job, Failing failing);
  void finish(Job& job, std::optional<Failure> failure, const std::string& cancel_reason, const EndEvent& event);
  void conclude(Job& job, Conclusion conclusion);
  void tell_end(Job& job);
  void forget(JobId id);
  Instant due(const Job& job) const;
  void arm(Job& job);
  void disarm(Job& job);
  void fire_timers();
  void fire(Job& job);
  void settle();
  void note_depths();
  void finish_drain();
  void plan_wakeup();
  std::uint32_t position_of(const Job& job) const;
  Instant order_by(const Job& job) const;
  FlowId flow_of(const Job& job) const;
  ExpectedWork expected_work(const Job& job) const;
  Failure failure_for(Outcome outcome, std::string message, const Job& job) const;
  bool mutated(Mutation mutation) const { return config_.mutation == mutation; }
  void emit(Effect effect) { out_->push_back(std::move(effect)); }

  Config config_;
  Fleet fleet_;
  LeaseTable leases_;
  JobQueue queue_;
  FairScheduler scheduler_;
  OtherStarts others_;
  Tenants tenants_;
  QuotaBook quotas_;
  QuotaHold asking_;  // of the Submit under way, until its job has it
  OpenRequests open_requests_;
  std::map<std::string, FlowId> latest_flows_;  // of each tenant's job that was queued last
  BudgetLedger budgets_;
  ServiceShares shares_;
  std::optional<TokenBucket> preemptions_;
  std::optional<Instant> others_heard_at_;
  std::map<std::string, std::int64_t> running_;  // dispatches in flight, by tenant
  StreamRegistry streams_;
  ServiceTimes times_;
  ReplicaSpeeds speeds_;
  PlacementIndex placement_index_;
  PrefixIndex prefixes_;
  DecisionLog decisions_;
  ModelLifecycle lifecycle_;
  OtherGateways other_gateways_;
  SessionBook sessions_;
  std::map<ReplicaKey, Instant> unloaded_;              // while retired; when to ask their managers again
  std::set<ReplicaKey> loads_judged_;                   // replicas that this life has looked at
  std::pair<std::uint64_t, std::uint64_t> loads_seen_;  // versions of fleet and life cycle
  Instant ask_again_at_ = Instant::never();
  DrainRates drains_;
  OnTimeRecord on_time_;
  Overtaking overtaking_;
  // Of the calls in flight, per model: when each is expected to end.
  std::map<std::string, std::set<std::pair<Instant, DispatchId>>> expected_ends_;
  Journal journal_;
  IdempotencyKeys keys_;
  EarlierLife earlier_;
  LeasingManagers leasing_;
  std::map<JobId, Job> jobs_;
  std::map<DispatchId, Call> calls_;
  std::map<RequestId, JobId> counting_;       // CountTokens asked, by their own serial
  std::uint64_t load_version_ = 1;            // grows whenever a bid may have changed
  bool fleet_changed_ = false;                // in this step
  Instant recovery_over_ = Instant::never();  // recovered jobs wait for managers until then
  bool settle_needed_ = true;                 // in this step
  std::set<std::pair<Instant, JobId>> timers_;
  ResultShelf results_;                               // ended jobs that are kept
  std::set<std::pair<Instant, JobId>> read_out_;      // ended jobs that are gone, for those who read them; until when
  std::set<std::pair<Instant, DispatchId>> closing_;  // cancelled calls whose end is not reported yet
  struct FenceWait {                                  // a job whose last attempt, or one in doubt, may still run
    ReplicaKey replica;
    Incarnation inc;
    Instant until;  // nothing of the attempt runs from then on
    AttemptEnd how = AttemptEnd::lost;
    bool of_earlier_life = false;
    Instant ends(Duration ttl) const { return how == AttemptEnd::lost ? until : until + ttl / 2; }
  };
  bool outlived(const FenceWait& wait) const;
  bool lost_too_often(const Job& job) const;
  std::map<JobId, FenceWait> fence_waits_;
  struct Alone {
    ReplicaKey replica;
    Incarnation inc;
  };
  std::set<JobId> suspects_;       // live jobs aboard a worker that died by itself (M6)
  std::map<JobId, Alone> alone_;   // of them that have a replica of their own
  std::set<ReplicaKey> reserved_;  // these replicas
  Quarantine quarantine_;
  bool unjudged_ = false;             // a job waits whose prompt may have been refused since
  std::uint64_t refused_judged_ = 0;  // version of the quarantine that those that wait were judged by
  struct MemoryHold {
    JobId job;
    ReplicaKey replica;
    Incarnation inc;
  };
  std::map<std::string, MemoryHold> memory_holds_;  // by model
  std::map<std::string, Instant> beats_;            // endpoint of a held worker -> next heartbeat
  std::map<std::pair<std::string, Priority>, std::uint32_t> depths_noted_;
  Ignored ignored_;
  std::uint64_t next_seq_ = 1;
  std::uint64_t next_count_ = 1;
  std::optional<Instant> drain_end_;
  bool drained_ = false;
  Instant wakeup_ = Instant::never();
  Instant now_;             // of the step under way
  Effects* out_ = nullptr;  // of the step under way
};

}  // namespace orch::gateway
