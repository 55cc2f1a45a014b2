// Everything pool-managerd's core may ask for. Plain data, executed by the shell in order; the simulator executes the
// same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/gateway_address.h"
#include "common/base/ids.h"
#include "common/base/kv_memory.h"
#include "common/base/lease_table.h"
#include "common/base/one_of.h"
#include "common/base/time.h"
#include "gen/outcome.h"
#include "pool-managerd/core/events.h"
#include "pool-managerd/core/operation.h"
#include "pool-managerd/core/replica_state.h"
#include "pool-managerd/core/restart_schedule.h"

namespace orch::pool {

// How the last process of a replica that is gone ended (OC-POOL-3058).
struct ProcessEnd {
  Incarnation inc;
  FailureClass failure = FailureClass::none;  // none: as the manager wanted
  bool operator==(const ProcessEnd&) const = default;
};

// What the manager says of one replica, at one instant.
struct ReplicaView {
  std::string replica_id;
  std::string pool_id;
  std::string engine;      // as configured; facts.engine once the worker has said it
  std::string model_name;  // as configured
  ReplicaState state = ReplicaState::stopped;
  Incarnation inc;
  std::string endpoint;
  WorkerFacts facts;  // last known; kept while the replica restarts
  std::string last_error;
  FailureClass last_failure = FailureClass::none;
  std::optional<ProcessEnd> last_end;  // none: no process of it has ended yet
  std::uint32_t restarts = 0;
  bool was_ready = false;
  std::uint32_t slots = 0;  // declared
  std::uint32_t running = 0;
  Duration retry_in;  // in backoff or with an open breaker: until the next start
  BreakerState breaker = BreakerState::closed;
  std::int64_t pid = 0;
  bool routable = false;                 // ready and heard of within TTL
  KvMemory kv;                           // of its last report; nothing is used between two lives
  std::uint64_t kv_saturated_total = 0;  // of all its lives; never less than it was
};

// --- processes ---

// Answered by ProcessStarted or SpawnFailed, later by one ProcessExited.
struct SpawnWorker {
  std::string replica_id;
  Incarnation inc;
  std::string pool_id;
  ModelFile model;
  std::uint32_t memory_sharers = 1;
};
enum class StopSignal : std::uint8_t { terminate, kill };
struct SignalWorker {
  Incarnation inc;
  StopSignal signal = StopSignal::terminate;
};

// --- workers ---

// Opens the Control stream, closing an earlier one; messages may be sent at once. It lasts until ControlBroken or the
// exit.
struct ConnectWorker {
  Incarnation inc;
  bool wants_table = false;  // the first report is to carry the worker's lease table (L8)
};
// Answered by InfoArrived or InfoFailed.
struct QueryInfo {
  Incarnation inc;
};
struct SendTable {
  Incarnation inc;
  LeaseTable table;
};
struct SendSelfCheck {
  Incarnation inc;
  std::uint64_t id = 0;
};
struct SendDrain {
  Incarnation inc;
  Duration deadline;
};

// --- orchestrators ---

struct AttachWelcome {
  LinkId link;
  std::vector<ReplicaView> replicas;  // whole snapshot
};
// The link is closed by the shell after it.
struct AttachRefused {
  LinkId link;
  Outcome outcome = Outcome::INVALID_PARAMS;
  std::string message;
  std::string field;
};
// To every welcomed link.
struct ReplicaChanged {
  ReplicaView replica;
};
// To every welcomed link, after a report and at most every load_interval: what of the KV memory is in use.
struct ReplicaLoaded {
  std::string replica_id;
  Incarnation inc;
  std::uint64_t kv_pages_used = 0;
};
// To every welcomed link: its successor has taken its place, and no process of it is left.
struct ReplicaGone {
  std::string replica_id;
};
// The worker has acked the table that contains it (L2).
struct SendGrant {
  LinkId link;
  LeaseId lease;
  std::string replica_id;
  Incarnation inc;
  std::uint32_t slots = 0;
  Secret secret{};
  std::uint64_t update_seq = 0;
  Duration ttl;
  std::uint64_t number = 0;  // of the grants on that link, from 1
};
struct SendRevoke {
  LinkId link;
  LeaseId lease;
  bool stop = false;
  std::string reason;
};

// L7: nothing of an earlier start of that link's orchestrator runs on this process, or can begin there any more.
struct SendEarlierOver {
  LinkId link;
  std::string replica_id;
  Incarnation inc;
};

// F4: what is new of all other starts, and be it nothing; at most every fair_interval, in parts where it is much.
struct SendOthers {
  LinkId link;
  OthersReport others;
};

// OC-JOB-1016: all addresses that are known.
struct SendGateways {
  LinkId link;
  std::vector<GatewayAddress> gateways;
};

// --- operator and process ---

struct OperationReply {
  RequestId request;
  std::optional<Operation> operation;    // accepted
  Outcome outcome = Outcome::NOT_FOUND;  // when not accepted
  std::string message;
  std::string field;
};
// What Manager::lasting_specs() says now is to outlive this process (OC-POOL-3054).
struct OperationEnded {
  Operation operation;
};
// Every worker has been reaped: the process may exit.
struct ShutdownComplete {};

// --- facts for metrics and log ---

struct NotedState {
  std::string replica_id;
  ReplicaState from = ReplicaState::stopped;
  ReplicaState to = ReplicaState::stopped;
  Incarnation inc;
};
struct NotedDrain {
  std::string replica_id;
  DrainReason reason = DrainReason::request;
};
struct NotedFailure {
  std::string replica_id;
  Incarnation inc;
  FailureClass failure = FailureClass::none;
  std::string message;
  std::uint32_t in_a_row = 0;
  bool permanent = false;
  bool breaker_open = false;
  Duration retry_in;
};

using EffectKinds = std::variant<SpawnWorker, SignalWorker, ConnectWorker, QueryInfo, SendTable, SendSelfCheck,
                                 SendDrain, AttachWelcome, AttachRefused, ReplicaChanged, ReplicaLoaded, ReplicaGone,
                                 SendGrant, SendRevoke, SendEarlierOver, SendOthers, SendGateways, OperationReply,
                                 OperationEnded, ShutdownComplete, NotedState, NotedDrain, NotedFailure>;
using Effect = OneOf<EffectKinds>;
using Effects = std::vector<Effect>;

}  // namespace orch::pool

extern template struct orch::OneOf<orch::pool::EffectKinds>;
