// Purpose: decisions and live state of the core as JSON for people: the explanation of one task, the queue with its
// fairness counters, the leases. Threads: loop only.
#pragma once

#include <optional>
#include <string>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// GET /v1/tasks/{id}/explain (OC-CTRL-2090); nullopt: the job is not among those remembered.
std::optional<std::string> explain_json(const Orchestrator& core, JobId job, Instant now);
// GET /v1/admin/queue and /v1/admin/leases (OC-CTRL-2091).
std::string queue_json(const Orchestrator& core, Instant now);
std::string leases_json(const Orchestrator& core, Instant now);

}  // namespace orch::gateway
