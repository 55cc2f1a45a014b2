// The control routes of pool-managerd's HTTP server: begin and follow operations (OC-POOL-3050, ORCH-2101 to 2103).
// Loop thread.
#pragma once

#include <string>
#include <string_view>

#include "common/runtime/http_router.h"
#include "gen/outcome.h"
#include "pool-managerd/core/manager.h"
#include "pool-managerd/shell/operation_desk.h"

namespace orch::pool {

// `manager` and `desk` outlive the router.
void add_operation_routes(runtime::HttpRouter& router, const Manager& manager, OperationDesk& desk);

// The error envelope of the contract.
runtime::HttpResponse failure_response(Outcome outcome, std::string_view message, std::string_view field = {});

}  // namespace orch::pool
