// HTTP failures of engines as outcomes (conformance rows A4 and A7).
#pragma once

#include <string_view>

#include "worker/core/engine_port.h"

namespace orch::adapter {

// Of a refusal before the first token; `body` may be an error object {"error":{"message","type"}}, in JSON or not.
worker::EngineFailure failure_of_status(int status, std::string_view body);

// Of an error object inside a stream that began with 200.
worker::EngineFailure failure_in_stream(std::string_view error_json);

// The answer broke the engine's own format or bounds.
worker::EngineFailure malformed(std::string_view what);
// The answer ended before its final marker.
worker::EngineFailure truncated();

}  // namespace orch::adapter
