// Everything orchestratord's core may ask for. Plain data, executed by the shell in order; the simulator executes the
// same. The Noted* effects carry what metrics and the log are made of; nothing in the core counts for display.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/one_of.h"
#include "common/base/time.h"
#include "orchestratord/core/budget.h"
#include "orchestratord/core/events.h"
#include "orchestratord/core/limits.h"
#include "orchestratord/core/quota_book.h"

namespace orch::gateway {

// --- answers to clients ---

struct Admitted {
  JobId job;
  std::uint32_t queue_position = 0;                          // jobs ahead of it
  Duration predicted_start;                                  // from now
  bool repeated = false;                                     // an Idempotency-Key named a job that exists (J5)
  bool estimated = false;                                    // by class defaults: nothing was measured yet
  std::optional<double> on_time_probability = std::nullopt;  // with a deadline only
  BudgetLeft budget = {};                                    // after it
};
// nullopt: let in; its body may come.
struct HeadReply {
  RequestId request;
  std::optional<Failure> failure;
};
struct AdmissionReply {
  RequestId request;
  std::variant<Admitted, Failure> result;
};
struct CancelReply {
  RequestId request;
  bool found = false;
};
struct SessionEnded {
  RequestId request;
  bool found = false;
};

// The states that hold from now on are to be stored before the request is answered (OC-MODEL-1007).
struct ModelsChanged {
  RequestId request;
  std::optional<Failure> failure;  // nothing has changed
  ModelStandings standings;
};
// What an earlier change had left to do is done: the states are to be stored, and nobody is answered (OC-MODEL-1008).
struct ModelsSettled {
  ModelStandings standings;
};
struct TenantsReply {
  RequestId request;
  std::optional<Failure> failure;  // nullopt: they are in force
};

// --- streams: StreamOpened, Deliver*, StreamClosed; or StreamRefused alone ---

struct StreamOpened {
  ReaderId reader;
  JobId job;
};
struct StreamRefused {
  ReaderId reader;
  Failure failure;
};
// Events are immutable and shared by all readers of the job.
struct Deliver {
  ReaderId reader;
  std::shared_ptr<const StreamEvent> event;
};
// Answered by ReaderDrained when the reader has taken what it was given; until then it hears nothing, but for what
// must go.
struct AwaitReader {
  ReaderId reader;
};
// Token events of a job, from one id to another: as many as make about so many bytes, as EventLog counts them, and one
// at least (OC-JOB-1018). Answered by exactly one JournalRead, unless the process ends; one of a reader is under way at
// most.
struct ReadJournal {
  ReaderId reader;
  JobId job;
  std::uint64_t from = 0;
  std::uint64_t upto = 0;
  std::uint64_t bytes = 0;
};
// Its connection is to be broken off: what it wants can be had no more. Answered by ReaderGone, as if it had fallen
// behind its buffer.
struct CutReader {
  ReaderId reader;
};
struct DeliverServedBy {
  ReaderId reader;
  std::shared_ptr<const ServedBy> served_by;
};
// After the terminal event, or when the job's stream ends for this reader; nothing follows.
struct StreamClosed {
  ReaderId reader;
};

// --- workers ---

struct Dispatch {
  DispatchId dispatch;
  std::string endpoint;
  Fence fence;
  std::shared_ptr<const JobPayload> payload;
  std::uint32_t max_tokens = 0;
  std::optional<Duration> deadline;  // remaining
  std::vector<std::uint32_t> resume_ids;
  std::string tenant;
  std::uint32_t lease_slots = 0;  // as known here (L3)
};
// The call is cancelled; the worker stops within one step. Its answers may still arrive and are ignored (L10), but the
// end of the call is reported like any other, by one of DispatchFinished, DispatchFailed, DispatchBroken: until then it
// holds its slot (at most Limits::cancel_settle).
struct CancelDispatch {
  DispatchId dispatch;
};
// The core's own heartbeat to a worker it holds slots of (L5). It travels on the stream to that endpoint.
struct BeatWorker {
  std::string endpoint;
};
// No lease of this worker is held any more: the stream to it may be closed.
struct ForgetWorker {
  std::string endpoint;
};
// Answered by TokensCounted.
struct CountTokens {
  RequestId request;
  std::string endpoint;
  std::shared_ptr<const JobPayload> payload;
};

// --- pool managers ---

// A backlogged tenant as a pool manager sees it (S1): whose waiting work comes first between orchestrators.
struct TenantBid {
  Priority priority = Priority::interactive;
  double class_v = 0;   // counter of the class in its domain, F2
  double tenant_v = 0;  // counter of the tenant in its class and domain, F2
  std::uint32_t waiting = 0;
  Duration age;  // of its oldest waiting job
  // Ages grow all the time; they are no change that a message is owed for.
  bool same_but_for_age(const TenantBid& other) const {
    return priority == other.priority && class_v == other.class_v && tenant_v == other.tenant_v &&
           waiting == other.waiting;
  }
};
struct PoolBid {
  std::string pool_id;
  std::uint32_t running = 0;
  std::uint32_t waiting = 0;
  std::vector<TenantBid> tenants = {};  // at most kBidTenantsMax, the lowest by (class_v, tenant_v, age)
};
inline constexpr std::size_t kBidTenantsMax = 32;
struct SendUpdate {
  LinkId link;
  std::uint64_t seq = 0;  // grows per link
  std::vector<PoolBid> bids;
  std::vector<LeaseId> renew;
  std::vector<LeaseId> release;
  std::uint64_t grants_seen = 0;  // number of the last grant that came on this link
  Duration grant_age;             // since it came
  std::vector<LeaseUse> beyond;   // leases whose open calls may use more than their slots (L6)
};

// A replica of a retired model is to be drained, or one of a model that is wanted again brought back, as an operator
// would ask for it (ORCH-3070). Nobody answers: what becomes of it is seen in the replica's state.
struct OperateReplica {
  LinkId link;
  std::string replica_id;
  bool bring_back = false;
  Duration deadline;  // of the drain
};

// F4: this gateway's own counters, whole; on change, at most every fair_interval.
struct SendFair {
  LinkId link;
  FairReport report;
};

// --- the journal ---

// One transaction, durable as a whole or not at all; answered by JournalCommitted or JournalFailed. Tickets grow.
struct JournalWrite {
  JournalTicket ticket;
  std::vector<JournalRecord> records;
};

// --- facts for metrics and log ---

struct NotedAdmitted {
  JobId job;
  std::string tenant;
  Priority priority = Priority::interactive;
  std::string pool_id;
  std::string engine;
  std::string engine_version;
  std::uint32_t queue_position = 0;
  Duration predicted_start;
};
struct NotedRefused {
  std::optional<JobId> job;  // nullopt: by its head, which names none
  std::string tenant;
  std::string engine;
  Failure failure;
};
struct NotedDispatched {
  JobId job;
  std::uint32_t attempt = 0;
  std::string replica_id;
  std::string pool_id;
  std::string engine;
  std::string engine_version;
  Priority priority = Priority::interactive;
  Duration queued;
  bool resumed = false;  // it had been preempted
};
struct NotedFirstToken {
  JobId job;
  std::string pool_id;
  std::string engine;
  std::string engine_version;
  Priority priority = Priority::interactive;
  Duration since_admission;
};
// Exactly one per admitted job.
struct NotedEnded {
  JobId job;
  std::string tenant;
  std::optional<Failure> failure;  // nullopt: `end`
  std::string cancel_reason;       // client | disconnect | drain, when canceled
  std::string replica_id;
  std::string pool_id;
  std::string engine;
  std::string engine_version;
  Priority priority = Priority::interactive;
  std::uint32_t tokens_in = 0;
  std::uint32_t tokens_out = 0;
  std::uint32_t cached_tokens_in = 0;  // of tokens_in, found in shared pages
  Duration queued;
  Duration decode;
  Duration total;
  std::optional<bool> deadline_met;  // of jobs with a deadline whose client did not leave
};
struct NotedPreempted {
  JobId job;  // the batch job that lost its slot (hard) or its turn (soft)
  JobId by;   // the interactive job
  std::string engine;
  PreemptionMode mode = PreemptionMode::soft;
};
// M6: it has ended, and its prompt is refused for a while.
struct NotedPoisoned {
  JobId job;
  std::string replica_id;  // the last one
  std::string pool_id;
};
// M7: prompt and accepted tokens that a later attempt has to compute once more.
// Sent to a replica that was believed to have the beginning of its prompt (OC-CORE-1018).
struct NotedWarmStart {
  std::string replica_id;
  std::string pool_id;
  std::string engine;
  bool found = false;  // at least half of it was there
};
struct NotedRecomputed {
  std::string replica_id;
  std::string pool_id;
  std::string engine;
  std::string engine_version;
  std::uint64_t tokens = 0;
};
struct NotedQuota {  // a request went over a quota
  std::string tenant;
  Quota quota = Quota::concurrent_jobs;
  bool enforced = true;  // false: a dry run, it was let in
};
struct NotedQueueDepth {
  std::string pool_id;
  Priority priority = Priority::interactive;
  std::uint32_t depth = 0;
};
struct NotedRetried {  // put back after an internal outcome
  JobId job;
  std::uint32_t attempt = 0;
  Outcome outcome = Outcome::STALE_LEASE;
};
struct NotedJournal {  // its health changed
  bool failing = false;
  std::string reason;
};
struct NotedRecovered {  // of one job an earlier life left
  enum class Way : std::uint8_t { replayed, resumed, run_again, reset };
  JobId job;
  Way way = Way::replayed;
};
// Drain is complete: the process may exit.
struct Drained {};

using EffectKinds =
    std::variant<HeadReply, AdmissionReply, CancelReply, SessionEnded, ModelsChanged, ModelsSettled, TenantsReply,
                 StreamOpened, StreamRefused, Deliver, AwaitReader, ReadJournal, CutReader, DeliverServedBy,
                 StreamClosed, Dispatch, CancelDispatch, BeatWorker, ForgetWorker, CountTokens, SendUpdate,
                 OperateReplica, SendFair, JournalWrite, NotedAdmitted, NotedRefused, NotedDispatched, NotedFirstToken,
                 NotedEnded, NotedPoisoned, NotedWarmStart, NotedRecomputed, NotedPreempted, NotedQuota,
                 NotedQueueDepth, NotedRetried, NotedJournal, NotedRecovered, Drained>;
using Effect = OneOf<EffectKinds>;

using Effects = std::vector<Effect>;

}  // namespace orch::gateway

extern template struct orch::OneOf<orch::gateway::EffectKinds>;
