// Purpose: the tenants as JSON: what GET /v1/tenants shows, what PUT /v1/tenants takes, and the last one that was put,
// as a file in the state directory, so that it outlives a restart (OC-TENANT-1003, 1004, 1007).
// Threads: loop only. Ranges are the core's to check: it names the field and the limit.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

inline constexpr char kTenantsFile[] = "tenants.json";

std::string tenants_json(const Orchestrator& core, Instant now);
// The whole replacement; what is left out has its default.
Result<TenantsConfig, Failure> parse_tenants(std::string body);

// As PUT takes it.
std::string stored_tenants_json(const TenantsConfig& config);
// nullopt: none was ever put, and the configured ones hold. The error says what is wrong with the file.
Result<std::optional<TenantsConfig>, std::string> load_tenants(const std::string& state_dir);

}  // namespace orch::gateway
