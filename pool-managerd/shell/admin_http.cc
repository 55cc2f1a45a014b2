#include "pool-managerd/shell/admin_http.h"

#include <map>
#include <optional>
#include <utility>

#include "common/runtime/clock.h"
#include "common/runtime/http_router.h"
#include "common/runtime/json_text.h"
#include "common/runtime/metrics.h"
#include "common/runtime/web_origin.h"
#include "pool-managerd/shell/operation_http.h"

namespace orch::pool {
namespace {

std::string text_of(Incarnation inc) { return std::to_string(inc.boot) + "." + std::to_string(inc.counter); }

void append_replica(std::string& out, const ReplicaView& view, const WorkerReport* report) {
  runtime::JsonObject json(out);
  const WorkerFacts& facts = view.facts;
  json.string("replica_id", view.replica_id)
      .string("pool_id", view.pool_id)
      .string("state", to_string(view.state))
      .boolean("routable", view.routable)
      .boolean("was_ready", view.was_ready)
      .string("last_error", view.last_error)
      .string("last_error_code", to_string(view.last_failure));
  if (view.last_end) {
    runtime::JsonObject end(json.key("last_end"));
    end.string("inc", text_of(view.last_end->inc)).string("code", to_string(view.last_end->failure)).close();
  }
  json.number("restarts", std::uint64_t{view.restarts})
      .number("retry_in_ms", static_cast<std::uint64_t>(view.retry_in.ms_ceil()))
      .string("breaker", to_string(view.breaker))
      .number("pid", static_cast<std::uint64_t>(view.pid))
      .string("inc", text_of(view.inc))
      .string("endpoint", view.endpoint)
      .string("engine", facts.engine.empty() ? view.engine : facts.engine)
      .string("engine_version", facts.engine_version)
      .string("sampler_profile_version", facts.sampler_profile_version)
      .string("model_name", view.model_name)
      .string("model_digest", facts.model_digest)
      .string("quant", facts.quant)
      .string("architecture", facts.architecture)
      .number("ctx_max", std::uint64_t{facts.ctx_max})
      .number("ctx_wanted", std::uint64_t{facts.ctx_wanted})
      .string("numeric_class", facts.numeric_class)
      .string("accelerator", facts.accelerator)
      .string("device_name", facts.device_name)
      .string("skipped_devices", facts.skipped_devices)
      .number("load_progress", double{facts.load_progress})
      .number("slots", std::uint64_t{view.slots})
      .number("running", std::uint64_t{view.running})
      .number("model_bytes", facts.model_bytes)
      .number("memory_bytes", facts.memory_bytes)
      .number("kv_page_tokens", std::uint64_t{facts.kv_page_tokens})
      .number("prefill_tokens_per_second", facts.prefill_tokens_per_second)
      .number("decode_tokens_per_second", facts.decode_tokens_per_second);
  if (report != nullptr) {
    json.number("steps_done", report->steps_done)
        .number("step_longest_ms", static_cast<std::uint64_t>(report->step_longest.ms()))
        .number("tokens_in_total", report->tokens_in_total)
        .number("tokens_out_total", report->tokens_out_total)
        .number("kv_pages_used", report->kv_pages_used)
        .number("kv_pages_total", report->kv_pages_total)
        .number("memory_used_bytes", report->memory_used_bytes)
        .number("kv_saturated_total", report->kv_saturated_total);
  }
  json.close();
}

runtime::HttpResponse error_of_status(int status, std::string_view message) {
  const Outcome outcome = status == 404   ? Outcome::NOT_FOUND
                          : status == 405 ? Outcome::METHOD_NOT_ALLOWED
                          : status == 413 ? Outcome::PAYLOAD_TOO_LARGE
                          : status >= 500 ? Outcome::INTERNAL
                                          : Outcome::INVALID_PARAMS;
  runtime::HttpResponse response = failure_response(outcome, message);
  response.status = status;
  return response;
}

}  // namespace

std::string replicas_json(const Manager& manager, Instant now) {
  std::map<std::string, const WorkerReport*> reports;
  for (const auto& [replica_id, report] : manager.last_reports()) reports[replica_id] = report;
  std::string out;
  runtime::JsonObject json(out);
  json.string("manager_id", manager.settings().manager.to_string()).number("boot", manager.settings().boot);
  json.number("orchestrators", static_cast<std::uint64_t>(manager.attached()));
  std::string& list = json.key("replicas");
  list.push_back('[');
  bool first = true;
  for (const ReplicaView& view : manager.replicas(now)) {
    if (!std::exchange(first, false)) list.push_back(',');
    const auto report = reports.find(view.replica_id);
    append_replica(list, view, report == reports.end() ? nullptr : report->second);
  }
  list.push_back(']');
  json.close();
  return out;
}

struct AdminHttp::Parts {
  runtime::HttpRouter router;
  std::optional<runtime::HttpServer> server;
};

AdminHttp::AdminHttp(runtime::EventLoop& loop, const Manager& manager, OperationDesk& desk,
                     std::vector<std::string> hosts, std::function<std::string()> metrics_text)
    : parts_(std::make_unique<Parts>()) {
  using runtime::HttpExchangePtr;
  using runtime::HttpResponse;
  parts_->router.add("GET", "/livez",
                     [](const HttpExchangePtr& exchange) { exchange->reply(HttpResponse::text(200, "ok\n")); });
  // Ready means: some replica can be dispatched to.
  parts_->router.add("GET", "/readyz", [&manager](const HttpExchangePtr& exchange) {
    std::string why;
    for (const ReplicaView& view : manager.replicas(runtime::now())) {
      if (view.routable) return exchange->reply(HttpResponse::text(200, "ok\n"));
      why += view.replica_id + ": " + std::string(to_string(view.state)) +
             (view.last_error.empty() ? "" : ", " + view.last_error) + "\n";
    }
    exchange->reply(HttpResponse::text(503, why));
  });
  parts_->router.add("GET", "/metrics", [metrics_text](const HttpExchangePtr& exchange) {
    HttpResponse response;
    response.content_type = runtime::kMetricsContentType;
    response.body = metrics_text();
    exchange->reply(std::move(response));
  });
  parts_->router.add("GET", "/v1/replicas", [&manager](const HttpExchangePtr& exchange) {
    exchange->reply(HttpResponse::json(200, replicas_json(manager, runtime::now())));
  });
  add_operation_routes(parts_->router, manager, desk);
  runtime::HttpLimits limits;
  limits.body_bytes = 16 * 1024;
  limits.connections = 64;
  runtime::HttpHooks hooks;
  hooks.on_request = [router = &parts_->router](const HttpExchangePtr& exchange) {
    const auto match = router->find(exchange->request().method, exchange->request().path);
    if (match.handler != nullptr) return (*match.handler)(exchange);
    const int status = match.allow.empty() ? 404 : 405;
    HttpResponse response = error_of_status(status, status == 404 ? "no such route" : "not with this method");
    if (!match.allow.empty()) response.with("Allow", match.allow);
    exchange->reply(std::move(response));
  };
  hooks.on_head = [known = std::move(hosts)](const runtime::HttpRequest& request) {
    runtime::HttpVerdict verdict;
    if (runtime::may_have_been_led_here(request.header("Host"), known)) {  // OC-CTRL-2075
      verdict.refusal =
          failure_response(Outcome::INVALID_PARAMS,
                           "this host is asked for by a name that is not in http.hosts of its configuration", "Host");
    }
    return verdict;
  };
  hooks.on_error = [](const runtime::HttpServerError& error) { return error_of_status(error.status, error.message); };
  parts_->server.emplace(loop, limits, std::move(hooks));
}

AdminHttp::~AdminHttp() = default;

Result<std::uint16_t, runtime::ListenError> AdminHttp::listen(const runtime::ListenAddress& address) {
  return parts_->server->listen(address);
}

void AdminHttp::close() { parts_->server->close(); }

}  // namespace orch::pool
