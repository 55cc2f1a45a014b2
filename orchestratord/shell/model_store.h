// Purpose: the life-cycle states of models as a file in the state directory, so that they survive a restart
// (OC-MODEL-1007), and as JSON for people. Threads: loop only.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "orchestratord/core/model_lifecycle.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

inline constexpr char kModelsFile[] = "models.json";

std::string standings_json(const ModelStandings& standings);
// The error says what is wrong with the text.
Result<ModelStandings, std::string> parse_standings(std::string_view text);
// An absent file is no state at all.
Result<ModelStandings, std::string> load_standings(const std::string& state_dir);

// GET /v1/admin/models: every known model with its state, set or not.
std::string admin_models_json(const Orchestrator& core);
// Bodies of POST /v1/admin/models/state and /v1/admin/models/rollback.
Result<std::pair<ModelKey, ModelStanding>, Failure> parse_model_state(std::string_view body);
Result<std::string, Failure> parse_model_name(std::string_view body);

}  // namespace orch::gateway
