// Everything that can happen to pool-managerd's core. Plain data; produced by the shell and by the simulator alike. A
// worker process is named by its incarnation, which is unique for the manager.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/fair_report.h"
#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/one_of.h"
#include "common/base/time.h"
#include "pool-managerd/core/operation.h"
#include "worker/core/engine_port.h"

namespace orch::pool {

using WorkerFacts = worker::EngineInfo;  // what GetInfo says

// --- processes ---

// Answers SpawnWorker.
struct ProcessStarted {
  Incarnation inc;
  std::int64_t pid = 0;
  std::string endpoint;  // gRPC target of its Worker service
};
struct SpawnFailed {
  Incarnation inc;
  std::string message;
  bool permanent = false;  // trying again cannot help: the configuration or the installation is wrong
};
// The process is gone and has been reaped (waitid): nothing of that incarnation runs any more (L6).
struct ProcessExited {
  Incarnation inc;
  int exit_code = 0;  // when signal == 0
  int signal = 0;
  std::string detail;  // last line it wrote, for people
};

// A worker of an earlier boot of this manager runs (L8).
struct WorkerFound {
  std::string replica_id;
  Incarnation inc;
  std::int64_t pid = 0;
  std::string endpoint;
};

// All of them, before the first Tick; they are watched like children.
struct WorkersFound {
  std::vector<WorkerFound> workers;  // at most one of a replica
};

// --- workers ---

// Answers QueryInfo.
struct InfoArrived {
  Incarnation inc;
  WorkerFacts facts;
};
struct InfoFailed {
  Incarnation inc;
};
struct SelfCheckOutcome {
  std::uint64_t id = 0;
  bool decoded = false;
  bool cancel_freed = false;
  bool counters_moved = false;
  std::string detail;
};
// One ControlReport of the stream opened last; also the worker's heartbeat.
struct WorkerReport {
  Incarnation inc;
  TableVersion version;        // last applied
  std::vector<LeaseUse> uses;  // after applying it
  std::uint32_t slots = 0;     // declared
  std::uint64_t steps_done = 0;
  std::uint64_t waits_done = 0;  // looks at an engine elsewhere that is waited for within its time budgets
  Duration step_longest;
  std::uint64_t tokens_out_total = 0;
  std::uint64_t tokens_in_total = 0;
  std::uint64_t kv_pages_used = 0;
  std::uint64_t kv_pages_total = 0;
  std::uint64_t memory_used_bytes = 0;
  std::uint64_t kv_saturated_total = 0;  // since the process started
  std::uint64_t jobs_ended = 0;          // since the process started
  std::uint64_t jobs_cut = 0;            // of them, those that it stopped because the drain's deadline had passed
  std::optional<SelfCheckOutcome> self_check;
  std::optional<LeaseTable> table = {};     // the first report of a stream opened to adopt (L8)
  std::optional<Duration> drain_left = {};  // it drains and takes no more work; its jobs are stopped then (L9)
};
// The Control stream ended or could not be opened. Not a death.
struct ControlBroken {
  Incarnation inc;
};

// --- orchestrators ---

// Answered by AttachWelcome or AttachRefused.
struct AttachOpened {
  LinkId link;
  Holder holder;
  std::string public_url;  // is_public_url(), or empty
};
enum class JobClass : std::uint8_t { interactive, batch };
// A backlogged tenant of a bid; the counters are domain-wide (S1, F2), so that managers need not talk to each other.
struct TenantBid {
  JobClass job_class = JobClass::interactive;
  double class_v = 0;
  double tenant_v = 0;
  std::uint32_t waiting = 0;
  Duration age;  // of its oldest waiting job, when the bid was sent
};
struct Bid {
  std::string pool_id;
  std::uint32_t running = 0;
  std::uint32_t waiting = 0;
  std::vector<TenantBid> tenants = {};
};
struct HolderUpdate {
  LinkId link;
  std::uint64_t seq = 0;  // grows per link
  std::vector<Bid> bids;
  std::vector<LeaseId> renew;
  std::vector<LeaseId> release;
  std::uint64_t grants_seen = 0;      // number of the last grant that came on this link
  Duration grant_age = {};            // since it came, when this was sent
  std::vector<LeaseUse> beyond = {};  // leases with more open calls than the size that was heard of last
};
// F4: cumulative counters of this orchestrator's start.
struct FairReported {
  LinkId link;
  FairReport report;
};
struct AttachClosed {
  LinkId link;
};

// --- operator and process ---

// Answered by exactly one OperationReply; when it was accepted, later by one OperationEnded.
struct StartOperation {
  RequestId request;
  OperationKind kind = OperationKind::drain;
  std::string pool_id;  // exactly one of the two; a reload and a restart are of a pool
  std::string replica_id;
  Duration deadline;                    // of each drain in it
  std::optional<ModelFile> model = {};  // reload
};
// SIGTERM: drain every replica, stop every worker, then ShutdownComplete. A second one may only shorten the deadline.
struct Shutdown {
  Duration deadline;
};
// Sent when next_wakeup() has come, and as often as the shell likes. The first one starts the replicas.
struct Tick {};

using EventKinds =
    std::variant<ProcessStarted, SpawnFailed, ProcessExited, WorkersFound, InfoArrived, InfoFailed, WorkerReport,
                 ControlBroken, AttachOpened, HolderUpdate, FairReported, AttachClosed, StartOperation, Shutdown, Tick>;
using Event = OneOf<EventKinds>;

}  // namespace orch::pool

extern template struct orch::OneOf<orch::pool::EventKinds>;
