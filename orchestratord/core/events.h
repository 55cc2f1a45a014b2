// Everything that can happen to orchestratord's core. Plain data; produced by the shell and by the simulator alike.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/fair_report.h"
#include "common/base/gateway_address.h"
#include "common/base/ids.h"
#include "common/base/kv_memory.h"
#include "common/base/one_of.h"
#include "common/base/replica_state.h"
#include "common/base/time.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/journal_records.h"
#include "orchestratord/core/model_lifecycle.h"
#include "orchestratord/core/stream_event.h"
#include "orchestratord/core/tenants.h"

namespace orch::gateway {

// --- clients ---

// The head of a request for a job is here and its caller known; its body is not (OC-ADMIT-1005). Answered by exactly
// one HeadReply. What is let in ends with a Submit of the same `request`, with RequestDropped, or by itself after a
// while.
struct RequestHead {
  RequestId request;
  std::string tenant;
  std::optional<std::array<std::uint8_t, 32>> key = {};  // of its Idempotency-Key, as in JobSpec
};
// No job comes of it: its body was refused, or its sender is gone.
struct RequestDropped {
  RequestId request;
};

// Validated by the shell; answered by exactly one AdmissionReply for `request`. Without a head before it, it is judged
// as if that came now.
struct Submit {
  RequestId request;
  JobSpec spec;
  std::optional<ReaderId> reader;  // attached jobs: the reader that is opened by the same call
};
// Answered by StreamOpened or StreamRefused, then by Deliver* and one StreamClosed.
struct OpenStream {
  ReaderId reader;
  JobId job;
  std::optional<std::uint64_t> last_event_id;  // deliver only events with a higher id
  std::optional<std::string> tenant = {};      // whose job it must be; nullopt: an operator asks (OC-TENANT-1006)
};
// Answers AwaitReader.
struct ReaderDrained {
  ReaderId reader;
};
// Answers ReadJournal: the events that were asked for, or the first of them. Empty: they could not be read.
struct JournalRead {
  ReaderId reader;
  std::vector<std::shared_ptr<const StreamEvent>> events;
};
// The reader is gone: closed by the client, or cut by the shell because its buffer overflowed.
struct ReaderGone {
  ReaderId reader;
  bool overflowed = false;
};
// Answered by exactly one CancelReply.
struct CancelJob {
  RequestId request;
  JobId job;
  std::optional<std::string> tenant = {};  // as in OpenStream
};

// Forgets a session and what it has used; answered by exactly one SessionEnded.
struct EndSession {
  RequestId request;
  std::string tenant;
  std::string session;
};

// Replaces the tenants whole; answered by exactly one TenantsReply.
struct TenantsChanged {
  RequestId request;
  TenantsConfig config;
};

// --- pool managers ---

using orch::ReplicaState;

// How one process of a replica ended, in its manager's words (OC-POOL-3058).
struct ProcessEnd {
  Incarnation inc;
  std::string code;  // class of the failure; empty: as the manager wanted
};

// What the manager says of one replica. Replaced whole by each report.
struct ReplicaView {
  std::string replica_id;
  std::string pool_id;
  ReplicaState state = ReplicaState::starting;
  Incarnation inc;
  std::string endpoint;  // gRPC target of its Worker service
  std::string engine;
  std::string engine_version;
  std::string sampler_profile_version;
  std::string model_name;
  std::string model_digest;  // "sha256:<hex>", empty when unknown
  std::string quant;
  std::string numeric_class;  // "X", "D", "none"
  std::string accelerator;    // cpu | vulkan | software-vulkan | external
  std::string device_name;
  std::string last_error;
  std::optional<ProcessEnd> last_end;  // of its processes, the last that is gone
  bool has_process = true;             // of its incarnation; false: reaped, or not started yet
  std::uint32_t ctx_max = 0;
  std::uint32_t slots = 0;
  std::uint32_t template_fixed_bytes = 0;
  std::uint32_t template_per_message_bytes = 0;
  float token_bytes_expansion = 0;  // tokens <= rendered bytes * this; 0: no bound known
  bool was_ready = false;
  Duration retry_in;  // in backoff: until the next start
  KvMemory kv;
  double prefill_rate = 0;       // tokens per second of one job alone, by its self-test; 0: not measured
  double decode_rate = 0;        // likewise
  bool prefix_cache = false;     // equal prefixes of one tenant are computed once
  std::uint64_t kv_version = 0;  // the fleet's: grows with each word on its memory
};

struct ManagerUp {
  LinkId link;
  ManagerId manager;
  std::uint64_t boot = 0;
  std::vector<ReplicaView> replicas;  // whole snapshot
};
struct ManagerDown {
  LinkId link;
};
struct ReplicaChanged {
  LinkId link;
  ReplicaView replica;
};
// What of its memory is in use, after a report of its worker (OC-POOL-3055).
struct ReplicaLoaded {
  LinkId link;
  std::string replica_id;
  Incarnation inc;
  std::uint64_t kv_pages_used = 0;
};
// Its successor has taken its place, and no process of it is left.
struct ReplicaGone {
  LinkId link;
  std::string replica_id;
};
// The manager's word: nothing of an earlier start of this gateway runs on that process, or can begin there (L7).
struct EarlierOver {
  LinkId link;
  std::string replica_id;
  Incarnation inc;
};
struct LeaseGranted {
  LinkId link;
  LeaseId lease;
  std::string replica_id;
  Incarnation inc;
  std::uint32_t slots = 0;
  Secret secret{};
  std::uint64_t update_seq = 0;  // of our SendUpdate it extends from (L4)
  Duration ttl;
  std::uint64_t number = 0;  // of the grants on that link, from 1; a second copy says nothing
};
struct LeaseRevoked {
  LinkId link;
  LeaseId lease;
  bool stop = false;
};

// F4: what this manager has heard of other starts since it last said so.
struct OthersReported {
  LinkId link;
  OthersReport others;
};

// OC-JOB-1016: where gateways are reached, all that this manager knows.
struct GatewaysTold {
  LinkId link;
  std::vector<GatewayAddress> gateways;
};

// --- workers, each tied to the dispatch it answers ---

struct DispatchStarted {
  DispatchId dispatch;
  Fence fence;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;
};
struct DispatchTokens {
  DispatchId dispatch;
  Fence fence;
  std::uint32_t index = 0;  // of the first token in the batch
  std::vector<std::uint32_t> ids;
  std::string text;  // valid UTF-8, may be empty while a code point is incomplete
  // Per id: where its text ends in `text`. Empty: the engine does not tell, and the batch is one event.
  std::vector<std::uint32_t> text_ends = {};
  std::vector<TokenLogProbs> log_probs = {};  // per id, when asked for
};
struct DispatchFinished {
  DispatchId dispatch;
  Fence fence;
  FinishReason reason = FinishReason::stop;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t completion_tokens = 0;
  bool estimated = false;
  Duration prefill;
  Duration decode;
  std::uint32_t cached_prompt_tokens = 0;
};
// The worker's terminal failure; internal outcomes (STALE_LEASE, SLOT_BUSY, ...) put the job back.
struct DispatchFailed {
  DispatchId dispatch;
  Fence fence;
  Failure failure;
  bool worker_ends = false;  // the worker dies of the same fault
};
// The stream to the worker broke without a terminal.
struct DispatchBroken {
  DispatchId dispatch;
};

// Answer to CountTokens; nullopt: could not be counted.
struct TokensCounted {
  RequestId request;
  std::optional<std::uint32_t> tokens;
};

// --- the journal: each JournalWrite is answered by exactly one of these two, in order of their tickets ---

// The writes `first` to `last` are durable.
struct JournalCommitted {
  JournalTicket first;
  JournalTicket last;
};
// Nothing of these writes may be relied on.
struct JournalFailed {
  JournalTicket first;
  JournalTicket last;
  std::string reason;
};
// What an earlier life of this process left behind. At most once, before any other event.
struct Recovered {
  std::vector<RecoveredJob> jobs;  // by admission, oldest first
  std::vector<RecoveredKey> keys;
  std::vector<LeasingManager> managers;  // whose leases earlier lives may have used
};

// --- process ---

// An operator's word on a model's state; each is answered by exactly one ModelsChanged.
struct SetModelState {
  RequestId request;
  ModelKey model;
  ModelStanding to;
};
struct RollBackModel {
  RequestId request;
  std::string name;
};

// Sent when next_wakeup() has come, and as often as the shell likes.
struct Tick {};
// SIGTERM: refuse new work, let running jobs end within `deadline`, then end the rest.
struct DrainBegin {
  Duration deadline;
};

using EventKinds =
    std::variant<RequestHead, RequestDropped, Submit, OpenStream, ReaderDrained, JournalRead, ReaderGone, CancelJob,
                 EndSession, TenantsChanged, ManagerUp, ManagerDown, ReplicaChanged, ReplicaLoaded, ReplicaGone,
                 EarlierOver, LeaseGranted, LeaseRevoked, OthersReported, GatewaysTold, DispatchStarted, DispatchTokens,
                 DispatchFinished, DispatchFailed, DispatchBroken, TokensCounted, JournalCommitted, JournalFailed,
                 Recovered, SetModelState, RollBackModel, Tick, DrainBegin>;
using Event = OneOf<EventKinds>;

}  // namespace orch::gateway

extern template struct orch::OneOf<orch::gateway::EventKinds>;
