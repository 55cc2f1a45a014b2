// Purpose: a Failure as an HTTP response, in the envelope of the API that was called. 429 carries Retry-After,
// X-Backoff-Ms and retry_after_ms, which agree (ORCH-2007, ORCH-3005).
#pragma once

#include <string>
#include <string_view>

#include "common/runtime/http_message.h"
#include "common/runtime/http_server.h"
#include "orchestratord/core/events.h"

namespace orch::gateway {

enum class Envelope : unsigned char { orch_queue, openai };
Envelope envelope_of(std::string_view path);

std::string failure_json(const Failure& failure);
std::string openai_error_json(const Failure& failure);
runtime::HttpResponse failure_reply(const Failure& failure, Envelope envelope);
// What the HTTP server refuses by itself.
runtime::HttpResponse server_error_reply(const runtime::HttpServerError& error);

}  // namespace orch::gateway
