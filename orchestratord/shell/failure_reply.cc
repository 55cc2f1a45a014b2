#include "orchestratord/shell/failure_reply.h"

#include <algorithm>

#include "common/runtime/json_text.h"

namespace orch::gateway {
using runtime::HttpResponse;
using runtime::JsonObject;

namespace {

std::string_view message_of(const Failure& failure) {
  return failure.message.empty() ? outcome_row(failure.outcome).text : std::string_view(failure.message);
}

std::uint64_t retry_after_ms(const Failure& failure) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(failure.retry_after->ms_ceil(), 0));
}

std::string_view openai_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

}  // namespace

Envelope envelope_of(std::string_view path) {
  return path.starts_with("/v1/chat/") || path == "/v1/completions" || path == "/v1/models" ||
                 path.starts_with("/v1/models/")
             ? Envelope::openai
             : Envelope::orch_queue;
}

std::string failure_json(const Failure& failure) {
  const OutcomeRow& row = outcome_row(failure.outcome);
  std::string out;
  JsonObject object(out);
  object.string("code", row.code).string("message", message_of(failure));
  if (!failure.field.empty()) object.string("field", failure.field);
  if (!failure.engine.empty()) object.string("engine", failure.engine);
  if (!failure.pool_id.empty()) object.string("pool_id", failure.pool_id);
  object.boolean("retriable", failure.retriable());
  if (failure.retry_after) object.number("retry_after_ms", retry_after_ms(failure));
  if (!failure.policy_label.empty()) object.string("policy_label", failure.policy_label);
  object.close();
  return out;
}

std::string openai_error_json(const Failure& failure) {
  const OutcomeRow& row = outcome_row(failure.outcome);
  std::string out = R"({"error":)";
  JsonObject object(out);
  object.string("message", message_of(failure)).string("type", openai_type(row.http_status));
  if (failure.field.empty()) {
    object.null("param");
  } else {
    // OpenAI calls it otherwise than the task routes, whose names the core uses.
    object.string("param", failure.field == "model_ref" ? "model" : failure.field);
  }
  object.string("code", row.code);
  if (failure.retry_after) object.number("retry_after_ms", retry_after_ms(failure));
  object.close();
  out.push_back('}');
  return out;
}

HttpResponse failure_reply(const Failure& failure, Envelope envelope) {
  const OutcomeRow& row = outcome_row(failure.outcome);
  HttpResponse response = HttpResponse::json(
      row.http_status, envelope == Envelope::openai ? openai_error_json(failure) : failure_json(failure));
  if (failure.retry_after) {
    const std::uint64_t ms = retry_after_ms(failure);
    response.with("Retry-After", std::to_string(std::max<std::uint64_t>((ms + 999) / 1000, 1)));
    if (row.http_status == 429) response.with("X-Backoff-Ms", std::to_string(ms));
  }
  if (row.http_status == 401) response.with("WWW-Authenticate", "Bearer");
  return response;
}

HttpResponse server_error_reply(const runtime::HttpServerError& error) {
  Failure failure;
  failure.message = std::string(error.message);
  switch (error.status) {
    case 404:
      failure.outcome = Outcome::NOT_FOUND;
      break;
    case 405:
      failure.outcome = Outcome::METHOD_NOT_ALLOWED;
      break;
    case 413:
      failure.outcome = Outcome::PAYLOAD_TOO_LARGE;
      break;
    case 500:
      failure.outcome = Outcome::INTERNAL;
      break;
    default:
      failure.outcome = Outcome::INVALID_PARAMS;
      break;
  }
  if (error.status == 413) failure.field = "body";
  HttpResponse response = failure_reply(failure, envelope_of(error.path));
  response.status = error.status;  // 408, 417 and 431 are finer than any outcome
  if (!error.allow.empty()) response.with("Allow", std::string(error.allow));
  return response;
}

}  // namespace orch::gateway
