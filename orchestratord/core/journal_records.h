// What the core asks to have remembered across its own death, and what it is given at the next start (J1 to J7). Plain
// data between the core and whatever makes it durable: SQLite in the shell, a model in tests and the simulator.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "orchestratord/core/job_spec.h"
#include "orchestratord/core/lane.h"
#include "orchestratord/core/stream_event.h"

namespace orch::gateway {

using JournalTicket = Serial<struct JournalTicketTag>;

// The job exists. Replaces whatever an older job of the same id left. Without `spec.store` the payload is not kept.
struct AdmitRecord {
  JobSpec spec;
  Lane lane;
  std::string pool_id;
  std::string engine;
  std::string engine_version;
  StartedEvent started;
};
// The attempt's tokens may be seen from now on, and these are what they depend on.
struct DispatchRecord {
  JobId job;
  std::uint32_t attempt = 0;
  ServedBy served_by;
  std::string replica_set;  // replica_set_key; empty: nothing can continue it
};
// Token events with consecutive ids (J3). Parts may repeat what an earlier record had.
struct TokensRecord {
  JobId job;
  std::vector<std::shared_ptr<const StreamEvent>> events;
};
// Which worker may die of the job now, and how many it was aboard before (M6). Replaces the one before.
struct AboardRecord {
  JobId job;
  std::uint32_t attempt = 0;  // the last one
  std::uint32_t losses = 0;   // workers lost to attempts that are over
  std::uint32_t deaths = 0;   // of them that died by themselves
  bool open = false;          // what became of the attempt's worker is not known, if it has begun
  ManagerId manager;          // whose replica it is
  std::string replica_id;     // empty: not known, or not chosen yet
  Incarnation inc;
};
// All managers whose leases this gateway's jobs may run under, and how long those live (M1). Replaces the one before.
struct LeasingManager {
  ManagerId manager;
  Duration ttl;
};
struct ManagersRecord {
  std::vector<LeasingManager> managers;
};
struct EndRecord {
  JobId job;
  std::shared_ptr<const StreamEvent> terminal;
};
// Nothing of the job is kept (J7); its idempotency key is, until it expires, but for one of a job that was refused.
struct EraseRecord {
  JobId job;
  std::optional<std::array<std::uint8_t, 32>> key = {};
};
// Proves that the journal can be written.
struct ProbeRecord {};

using JournalRecord = std::variant<AdmitRecord, DispatchRecord, TokensRecord, AboardRecord, ManagersRecord, EndRecord,
                                   EraseRecord, ProbeRecord>;

struct RecoveredJob {
  AdmitRecord admit;  // spec.payload is null when it was not stored
  Duration age;       // since admission, by the wall clock
  std::optional<DispatchRecord> dispatch;
  std::optional<AboardRecord> aboard;
  std::vector<std::shared_ptr<const StreamEvent>> tokens;  // ids from 2 on, consecutive
  std::shared_ptr<const StreamEvent> terminal;             // null: it had not ended
  Duration ended_age;
};

struct RecoveredKey {
  Idempotency idempotency;
  JobId job;
  StartedEvent admitted;  // what the first answer said
  Duration age;
};

}  // namespace orch::gateway
