// The bodies of operation requests and the JSON of operations (contracts/openapi/control.yaml). Threads: any.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "pool-managerd/core/events.h"

namespace orch::pool {

struct BadRequest {
  std::string field;
  std::string message;  // names the field and the limit
};

// `kind` and where it goes are the route's; an empty body takes the defaults.
Result<StartOperation, BadRequest> read_operation(OperationKind kind, std::string_view body);

void append_operation(std::string& out, const Operation& operation, Instant now);

}  // namespace orch::pool
