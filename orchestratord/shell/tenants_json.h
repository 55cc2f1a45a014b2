// Purpose: the tenants as JSON: what GET /v1/tenants shows and what PUT /v1/tenants takes (OC-TENANT-1003, 1004).
// Threads: loop only. Ranges are the core's to check: it names the field and the limit.
#pragma once

#include <string>

#include "common/base/result.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

std::string tenants_json(const Orchestrator& core, Instant now);
// The whole replacement; what is left out has its default.
Result<TenantsConfig, Failure> parse_tenants(std::string body);

}  // namespace orch::gateway
