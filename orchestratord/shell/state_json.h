// Purpose: what the core knows, as JSON for readers: models, replica sets, capabilities, readiness. Threads: loop only.
#pragma once

#include <optional>
#include <string>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

std::string models_json(const Orchestrator& core);  // GET /v1/models, OpenAI's shape
// GET /v1/models/{id}; null where no live replica serves it (OC-OAI-1005).
std::optional<std::string> model_json(const Orchestrator& core, const std::string& name);
std::string replicasets_json(const Orchestrator& core);  // GET /v1/replicasets (ORCH-2104)
// GET /v1/capabilities (ORCH-3095), with the limits of this tenant, as its key names it.
std::string capabilities_json(const Orchestrator& core, const std::string& tenant);
// Empty when some model can be served now; else why not, in words.
std::string why_not_ready(const Orchestrator& core);
// What a ready gateway cannot do now, for people; empty: nothing.
std::string what_is_degraded(const Orchestrator& core);

}  // namespace orch::gateway
