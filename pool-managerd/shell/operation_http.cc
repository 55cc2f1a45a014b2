#include "pool-managerd/shell/operation_http.h"

#include <optional>
#include <utility>

#include "common/runtime/clock.h"
#include "common/runtime/json_text.h"
#include "common/runtime/web_origin.h"
#include "pool-managerd/shell/operation_request.h"

namespace orch::pool {
namespace {

using runtime::HttpExchangePtr;
using runtime::HttpResponse;

HttpResponse operation_response(int status, const Operation& operation) {
  std::string body;
  append_operation(body, operation, runtime::now());
  HttpResponse response = HttpResponse::json(status, std::move(body));
  return response.with("Location", "/v1/operations/" + to_string(operation.id));
}

HttpResponse ended_response(const Operation& operation) {
  if (operation.state == OperationState::succeeded) return operation_response(200, operation);
  return failure_response(Outcome::CONFLICT, "operation " + to_string(operation.id) + " failed: " + operation.error);
}

void wait_for_end(const HttpExchangePtr& exchange, const Operation& operation, OperationDesk& desk) {
  const std::uint64_t waiter =
      desk.wait(operation.id, [exchange](const Operation& ended) { exchange->reply(ended_response(ended)); });
  if (waiter == 0) return exchange->reply(operation_response(202, operation));
  exchange->on_disconnect([waiter, &desk] { desk.forget(waiter); });
}

// "/v1/<things>/<id>[/<verb>]"
std::string id_in(std::string_view path) {
  path.remove_prefix(path.find('/', 4) + 1);
  return std::string(path.substr(0, path.find('/')));
}

struct Route {
  OperationKind kind;
  bool of_replica;
};

void begin(const HttpExchangePtr& exchange, Route route, const Manager& manager, OperationDesk& desk) {
  const runtime::HttpRequest& request = exchange->request();
  if (!runtime::says_json(request))  // OC-CTRL-2075
    return exchange->reply(failure_response(Outcome::INVALID_PARAMS, "application/json expected", "Content-Type"));
  if (runtime::comes_from_a_foreign_page(request))
    return exchange->reply(
        failure_response(Outcome::INVALID_PARAMS, "a web page of another origin may not do this", "Origin"));
  const std::string wait = runtime::query_value(request.query, "wait");
  if (!wait.empty() && wait != "true" && wait != "false")
    return exchange->reply(failure_response(Outcome::INVALID_PARAMS, "wait: true or false expected", "wait"));
  auto operation = read_operation(route.kind, request.body);
  if (!operation.ok()) {
    const BadRequest& bad = operation.error();
    return exchange->reply(failure_response(Outcome::INVALID_PARAMS, bad.message, bad.field));
  }
  (route.of_replica ? operation->replica_id : operation->pool_id) = id_in(request.path);
  desk.start(*operation, [exchange, waits = wait == "true", &manager, &desk](const OperationReply& reply) {
    if (!reply.operation) return exchange->reply(failure_response(reply.outcome, reply.message, reply.field));
    // Nothing may have been left to do.
    const Operation now = manager.operation(reply.operation->id).value_or(*reply.operation);
    if (!waits) return exchange->reply(operation_response(202, now));
    if (now.state != OperationState::running) return exchange->reply(ended_response(now));
    wait_for_end(exchange, now, desk);
  });
}

void list_operations(const HttpExchangePtr& exchange, const Manager& manager) {
  std::string body = R"({"operations":[)";
  const char* separator = "";
  for (const Operation& each : manager.operations()) {
    body += std::exchange(separator, ",");
    append_operation(body, each, runtime::now());
  }
  exchange->reply(HttpResponse::json(200, body + "]}"));
}

void show_operation(const HttpExchangePtr& exchange, const Manager& manager) {
  const std::string text = id_in(exchange->request().path);
  const auto id = parse_operation_id(text);
  const std::optional<Operation> found = id ? manager.operation(*id) : std::nullopt;
  if (!found) return exchange->reply(failure_response(Outcome::NOT_FOUND, "no operation '" + text + "'"));
  exchange->reply(operation_response(200, *found));
}

// ORCH-2103.
void show_health(const HttpExchangePtr& exchange, const Manager& manager) {
  const std::string pool = id_in(exchange->request().path);
  std::uint64_t replicas = 0;
  std::uint64_t ready = 0;
  std::uint64_t draining = 0;
  std::string last_error;
  for (const ReplicaView& view : manager.replicas(runtime::now())) {
    if (view.pool_id != pool) continue;
    ++replicas;
    if (view.routable) ++ready;
    if (view.state == ReplicaState::draining) ++draining;
    if (last_error.empty() && !view.last_error.empty()) last_error = view.replica_id + ": " + view.last_error;
  }
  if (replicas == 0)
    return exchange->reply(failure_response(Outcome::NOT_FOUND, "no pool '" + pool + "' on this host"));
  std::string body;
  runtime::JsonObject json(body);
  json.string("pool_id", pool)
      .boolean("live", true)
      .boolean("ready", ready > 0)
      .boolean("draining", draining > 0)
      .number("replicas", replicas)
      .number("replicas_ready", ready)
      .string("last_error", last_error);
  json.close();
  exchange->reply(HttpResponse::json(200, std::move(body)));
}

}  // namespace

HttpResponse failure_response(Outcome outcome, std::string_view message, std::string_view field) {
  const OutcomeRow& row = outcome_row(outcome);
  std::string body;
  runtime::JsonObject json(body);
  json.string("code", row.code).string("message", message);
  if (!field.empty()) json.string("field", field);
  json.boolean("retriable", row.retriable);
  json.close();
  return HttpResponse::json(row.http_status, std::move(body));
}

void add_operation_routes(runtime::HttpRouter& router, const Manager& manager, OperationDesk& desk) {
  const auto add = [&](std::string_view pattern, Route route) {
    router.add("POST", pattern,
               [route, &manager, &desk](const HttpExchangePtr& exchange) { begin(exchange, route, manager, desk); });
  };
  add("/v1/pools/{id}/drain", {OperationKind::drain, false});
  add("/v1/pools/{id}/undrain", {OperationKind::undrain, false});
  add("/v1/pools/{id}/reload", {OperationKind::reload, false});
  add("/v1/pools/{id}/restart", {OperationKind::restart, false});
  add("/v1/replicas/{id}/drain", {OperationKind::drain, true});
  add("/v1/replicas/{id}/undrain", {OperationKind::undrain, true});
  router.add("GET", "/v1/pools/{id}/health",
             [&manager](const HttpExchangePtr& exchange) { show_health(exchange, manager); });
  router.add("GET", "/v1/operations",
             [&manager](const HttpExchangePtr& exchange) { list_operations(exchange, manager); });
  router.add("GET", "/v1/operations/{id}",
             [&manager](const HttpExchangePtr& exchange) { show_operation(exchange, manager); });
}

}  // namespace orch::pool
