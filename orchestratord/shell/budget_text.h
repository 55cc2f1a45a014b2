// Purpose: budgets as clients see them: X-Budget-* headers, keys of the `metrics` event, GET /v1/sessions/{id}. What
// has no limit is left out. Pure.
#pragma once

#include <string>

#include "common/runtime/http_message.h"
#include "common/runtime/json_text.h"
#include "orchestratord/core/budget_ledger.h"

namespace orch::gateway {

// "1.5": billionths of the currency as a decimal number.
std::string cost_text(std::int64_t billionths);
void add_budget_headers(runtime::HttpResponse& response, const BudgetLeft& left);
// tokens_budget_remaining and its siblings.
void append_budget(runtime::JsonObject& json, const BudgetLeft& left);
std::string session_json(const std::string& session, const SessionStanding& standing);

}  // namespace orch::gateway
