#include "adapters/core/upstream_error.h"

#include <nlohmann/json.hpp>
#include <string>

#include "adapters/core/json_reads.h"

namespace orch::adapter {
namespace {

using worker::EngineFailure;

constexpr std::size_t kMessageMax = 512;

struct UpstreamError {
  std::string message;
  std::string type;
};

// Cut at a code point, so that the message stays valid UTF-8.
std::string bounded(std::string text) {
  if (text.size() <= kMessageMax) return text;
  std::size_t end = kMessageMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  text.resize(end);
  return text + "...";
}

UpstreamError parse(std::string_view body) {
  const nlohmann::json document = nlohmann::json::parse(body, nullptr, false);
  if (!document.is_object()) return {};
  const auto found = document.find("error");
  if (found == document.end()) return {.message = string_at(document, "message"), .type = string_at(document, "type")};
  if (found->is_string()) return {.message = found->get<std::string>(), .type = {}};
  if (!found->is_object()) return {};
  return {.message = string_at(*found, "message"), .type = string_at(*found, "type")};
}

Outcome outcome_of(int status, const std::string& type) {
  if (type == "exceed_context_size_error") return Outcome::CONTEXT_OVERFLOW;
  switch (status) {
    case 400:
    case 404:
    case 413:
    case 422:
      return Outcome::INVALID_PARAMS;
    case 401:
    case 403:
      return Outcome::INTERNAL;  // the adapter's own key: a fault of the configuration, not of the caller
    case 408:
      return Outcome::DECODE_TIMEOUT;
    case 429:
    case 503:
      return Outcome::POOL_UNREADY;
    case 501:
      return Outcome::NOT_IMPLEMENTED;
    default:
      return status == 424 || status >= 500 ? Outcome::WORKER_RESET : Outcome::INTERNAL;
  }
}

}  // namespace

EngineFailure failure_of_status(int status, std::string_view body) {
  const UpstreamError error = parse(body);
  std::string message = "engine answered " + std::to_string(status);
  if (status == 401 || status == 403) {
    message += ": it refuses the adapter's key";
  } else if (!error.message.empty()) {
    message += ": " + error.message;
  }
  return {.outcome = outcome_of(status, error.type), .message = bounded(std::move(message)), .field = {}};
}

EngineFailure failure_in_stream(std::string_view error_json) {
  const UpstreamError error = parse(error_json);
  // Tokens may have been seen: only the caller's own faults keep their code, everything else ends the job as a reset.
  const bool callers = error.type == "invalid_request_error" || error.type == "exceed_context_size_error";
  const Outcome outcome = callers ? outcome_of(400, error.type) : Outcome::WORKER_RESET;
  return {.outcome = outcome, .message = bounded("engine failed mid-stream: " + error.message), .field = {}};
}

EngineFailure malformed(std::string_view what) {
  return {.outcome = Outcome::WORKER_RESET, .message = "upstream malformed: " + std::string(what), .field = {}};
}

EngineFailure truncated() {
  return {.outcome = Outcome::WORKER_RESET,
          .message = "upstream truncated: the stream ended before its final event",
          .field = {}};
}

}  // namespace orch::adapter
