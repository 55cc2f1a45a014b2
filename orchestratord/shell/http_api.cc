#include "orchestratord/shell/http_api.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "common/runtime/clock.h"
#include "common/runtime/http_router.h"
#include "common/runtime/json_text.h"
#include "common/runtime/metrics.h"
#include "common/runtime/web_origin.h"
#include "orchestratord/shell/budget_text.h"
#include "orchestratord/shell/explain_json.h"
#include "orchestratord/shell/failure_reply.h"
#include "orchestratord/shell/http_sinks.h"
#include "orchestratord/shell/http_submissions.h"
#include "orchestratord/shell/model_store.h"
#include "orchestratord/shell/state_json.h"
#include "orchestratord/shell/task_home.h"
#include "orchestratord/shell/tenants_json.h"

namespace orch::gateway {
namespace {

using runtime::HttpExchangePtr;
using runtime::HttpRequest;
using runtime::HttpResponse;

std::string_view presented_key(const HttpRequest& request) {
  const std::string_view bearer = runtime::bearer_token(request.header("Authorization"));
  return bearer.empty() ? request.header("X-API-Key") : bearer;
}

bool is_open_path(std::string_view path) { return path == "/livez" || path == "/readyz" || path == "/metrics"; }

Failure make_failure(Outcome outcome, std::string message, std::string field = {}) {
  Failure out;
  out.outcome = outcome;
  out.message = std::move(message);
  out.field = std::move(field);
  return out;
}

bool is_admin_path(std::string_view path) { return path.starts_with("/v1/admin/"); }

bool administers(const HttpRequest& request) {
  return (is_admin_path(request.path) || request.path == "/v1/tenants") && request.method != "GET" &&
         request.method != "HEAD";
}

}  // namespace

struct HttpApi::Parts {
  Parts(OrchId self, const gateway_config::Config& settings, const runtime::KeyRing& key_ring,
        const Orchestrator& orchestrator, ClientDesk& client_desk, Hooks api_hooks)
      : config(settings),
        keys(key_ring),
        core(orchestrator),
        home(self, settings.http.public_url, orchestrator.other_gateways()),
        desk(client_desk),
        submissions(settings, orchestrator, home, client_desk),
        hooks(std::move(api_hooks)) {}

  void add_routes();
  runtime::HttpVerdict judge(const HttpRequest& request);
  std::optional<HttpResponse> authenticate(const HttpRequest& request) const;
  void route(const HttpExchangePtr& exchange);
  void stream_task(const HttpExchangePtr& exchange);
  void cancel_task(const HttpExchangePtr& exchange);
  void set_model_state(const HttpExchangePtr& exchange);
  void roll_back_model(const HttpExchangePtr& exchange);
  void put_tenants(const HttpExchangePtr& exchange);
  void explain_task(const HttpExchangePtr& exchange);
  void get_model(const HttpExchangePtr& exchange);
  void get_session(const HttpExchangePtr& exchange);
  void delete_session(const HttpExchangePtr& exchange);
  std::optional<runtime::KeyRing::Caller> caller_of(const HttpRequest& request) const;
  std::string tenant_of(const HttpRequest& request) const;
  ClientDesk::Owner owner_of(const HttpRequest& request) const;
  bool may_operate(const HttpExchangePtr& exchange) const;

  // The {id} of the route being handled.
  std::optional<JobId> task_id() const {
    const auto id = params.empty() ? std::nullopt : Uuid::parse(params.front().second);
    return id ? std::optional(JobId{*id}) : std::nullopt;
  }

  const gateway_config::Config& config;
  const runtime::KeyRing& keys;
  const Orchestrator& core;
  const TaskHome home;
  ClientDesk& desk;
  HttpSubmissions submissions;
  const Hooks hooks;
  runtime::HttpRouter router;
  std::vector<std::pair<std::string, std::string>> params;  // of the route being handled
  std::optional<runtime::HttpServer> server;
};

void HttpApi::Parts::add_routes() {
  const auto reply_json = [](const HttpExchangePtr& exchange, std::string body) {
    exchange->reply(HttpResponse::json(200, std::move(body)));
  };
  // Reached by the verdict on their heads alone: what they do stands in http_submissions.h.
  for (const std::string_view path : HttpSubmissions::kPaths) router.add("POST", path, nullptr);
  router.add("GET", "/v1/tasks/{id}/stream", [this](const HttpExchangePtr& exchange) { stream_task(exchange); });
  router.add("POST", "/v1/tasks/{id}/cancel", [this](const HttpExchangePtr& exchange) { cancel_task(exchange); });
  router.add("GET", "/v1/tasks/{id}/explain", [this](const HttpExchangePtr& exchange) { explain_task(exchange); });
  router.add("GET", "/v1/sessions/{id}", [this](const HttpExchangePtr& exchange) { get_session(exchange); });
  router.add("DELETE", "/v1/sessions/{id}", [this](const HttpExchangePtr& exchange) { delete_session(exchange); });
  router.add("GET", "/v1/admin/queue",
             [=, this](const HttpExchangePtr& exchange) { reply_json(exchange, queue_json(core, runtime::now())); });
  router.add("GET", "/v1/admin/leases",
             [=, this](const HttpExchangePtr& exchange) { reply_json(exchange, leases_json(core, runtime::now())); });
  router.add("GET", "/v1/admin/models",
             [=, this](const HttpExchangePtr& exchange) { reply_json(exchange, admin_models_json(core)); });
  router.add("POST", "/v1/admin/models/state", [this](const HttpExchangePtr& exchange) { set_model_state(exchange); });
  router.add("POST", "/v1/admin/models/rollback",
             [this](const HttpExchangePtr& exchange) { roll_back_model(exchange); });
  router.add("GET", "/v1/models",
             [=, this](const HttpExchangePtr& exchange) { reply_json(exchange, models_json(core)); });
  router.add("GET", "/v1/models/{id}", [this](const HttpExchangePtr& exchange) { get_model(exchange); });
  router.add("GET", "/v1/replicasets",
             [=, this](const HttpExchangePtr& exchange) { reply_json(exchange, replicasets_json(core)); });
  router.add("GET", "/v1/capabilities", [=, this](const HttpExchangePtr& exchange) {
    reply_json(exchange, capabilities_json(core, tenant_of(exchange->request())));
  });
  router.add("GET", "/v1/tenants", [=, this](const HttpExchangePtr& exchange) {
    if (may_operate(exchange)) reply_json(exchange, tenants_json(core, runtime::now()));
  });
  router.add("PUT", "/v1/tenants", [this](const HttpExchangePtr& exchange) { put_tenants(exchange); });
  router.add("GET", "/livez",
             [](const HttpExchangePtr& exchange) { exchange->reply(HttpResponse::text(200, "ok\n")); });
  router.add("GET", "/readyz", [this](const HttpExchangePtr& exchange) {
    std::string why = why_not_ready(core);
    if (!why.empty()) return exchange->reply(HttpResponse::text(503, std::move(why)));
    exchange->reply(HttpResponse::text(200, "ok\n" + what_is_degraded(core)));
  });
  router.add("GET", "/metrics", [this](const HttpExchangePtr& exchange) {
    HttpResponse response;
    response.content_type = runtime::kMetricsContentType;
    response.body = hooks.metrics_text();
    exchange->reply(std::move(response));
  });
}

// Before a byte of the body is read: who asks, and whether one more job of theirs may begin (OC-ADMIT-1002).
runtime::HttpVerdict HttpApi::Parts::judge(const HttpRequest& request) {
  if (auto refusal = authenticate(request)) return {std::move(refusal)};
  if (!HttpSubmissions::takes(request)) return {};
  return submissions.let_in(request, tenant_of(request));
}

// ORCH-3035, ruling 8.
std::optional<HttpResponse> HttpApi::Parts::authenticate(const HttpRequest& request) const {
  if (keys.empty() && runtime::comes_from_a_foreign_page(request)) {  // OC-CTRL-2075; a key is nothing a page could add
    return failure_reply(
        make_failure(Outcome::INVALID_PARAMS, "a web page of another origin may not do this", "Origin"),
        envelope_of(request.path));
  }
  const bool of_a_network = !config.http.listen.starts_with("unix:");
  if (keys.empty() && of_a_network && runtime::may_have_been_led_here(request.header("Host"), config.http.hosts)) {
    return failure_reply(
        make_failure(Outcome::INVALID_PARAMS,
                     "this host is asked for by a name that is not in http.hosts of its configuration", "Host"),
        envelope_of(request.path));
  }
  if (keys.empty() || is_open_path(request.path)) return std::nullopt;
  const std::string_view presented = presented_key(request);
  if (!presented.empty() && keys.match(presented)) return std::nullopt;
  HttpResponse response = failure_reply(
      make_failure(Outcome::UNAUTHENTICATED,
                   presented.empty() ? "a key is required: Authorization: Bearer or X-API-Key" : "the key is wrong"),
      envelope_of(request.path));
  response.close = true;
  return response;
}

std::optional<runtime::KeyRing::Caller> HttpApi::Parts::caller_of(const HttpRequest& request) const {
  return keys.empty() ? std::nullopt : keys.identify(presented_key(request));
}

// OC-TENANT-1001.
std::string HttpApi::Parts::tenant_of(const HttpRequest& request) const {
  const auto caller = caller_of(request);
  return caller ? caller->owner : JobSpec{}.tenant;
}

// OC-TENANT-1006: whose tasks the caller may read, cancel and ask about. Without keys everybody on this host is one.
ClientDesk::Owner HttpApi::Parts::owner_of(const HttpRequest& request) const {
  const auto caller = caller_of(request);
  return caller && !caller->is_operator ? ClientDesk::Owner(caller->owner) : std::nullopt;
}

// Only an operator's key may look at all tenants, change them and use /v1/admin (OC-TENANT-1006).
bool HttpApi::Parts::may_operate(const HttpExchangePtr& exchange) const {
  if (keys.empty()) return true;
  const auto caller = caller_of(exchange->request());
  if (caller && caller->is_operator) return true;
  exchange->reply(failure_reply(make_failure(Outcome::FORBIDDEN, "only a key of auth.key_files may do this"),
                                Envelope::orch_queue));
  return false;
}

void HttpApi::Parts::put_tenants(const HttpExchangePtr& exchange) {
  if (!may_operate(exchange)) return;
  auto parsed = parse_tenants(exchange->take_body());
  if (!parsed.ok()) return exchange->reply(failure_reply(parsed.error(), Envelope::orch_queue));
  desk.change_tenants(std::move(parsed).value(), [this, exchange](const std::optional<Failure>& failure) {
    if (failure) return exchange->reply(failure_reply(*failure, Envelope::orch_queue));
    exchange->reply(HttpResponse::json(200, tenants_json(core, runtime::now())));
  });
}

void HttpApi::Parts::route(const HttpExchangePtr& exchange) {
  const HttpRequest& request = exchange->request();
  auto match = router.find(request.method, request.path);
  if (is_admin_path(request.path) && !may_operate(exchange)) return;
  if (match.handler != nullptr) {
    if (administers(request) && !runtime::says_json(request)) {  // OC-CTRL-2075
      return exchange->reply(
          failure_reply(make_failure(Outcome::INVALID_PARAMS, "application/json expected", "Content-Type"),
                        envelope_of(request.path)));
    }
    if (auto sent_on = home.elsewhere(request)) return exchange->reply(std::move(*sent_on));
    params = std::move(match.params);
    return (*match.handler)(exchange);
  }
  if (match.allow.empty()) {
    return exchange->reply(failure_reply(make_failure(Outcome::NOT_FOUND, "no such route"), envelope_of(request.path)));
  }
  HttpResponse response = failure_reply(make_failure(Outcome::METHOD_NOT_ALLOWED, "this route takes " + match.allow),
                                        envelope_of(request.path));
  exchange->reply(std::move(response.with("Allow", match.allow)));
}

void HttpApi::Parts::stream_task(const HttpExchangePtr& exchange) {
  const HttpRequest& request = exchange->request();
  const auto job = task_id();
  if (!job)
    return exchange->reply(
        failure_reply(make_failure(Outcome::NOT_FOUND, "no such task", "task_id"), Envelope::orch_queue));
  std::optional<std::uint64_t> last;
  if (const std::string_view text = request.header("Last-Event-ID"); !text.empty()) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
      return exchange->reply(failure_reply(
          make_failure(Outcome::INVALID_PARAMS, "Last-Event-ID must be an event id of this stream", "Last-Event-ID"),
          Envelope::orch_queue));
    }
    last = value;
  }
  const Job* known = core.find_job(*job);
  SinkLimits limits = submissions.sink_limits(known == nullptr ? std::string() : known->spec.tenant,
                                              known == nullptr ? std::string() : known->spec.session);
  const ReaderId reader = desk.open(*job, last, owner_of(request), make_task_sink(exchange, std::move(limits)));
  exchange->on_disconnect([this, reader] { desk.gone(reader); });
}

void HttpApi::Parts::cancel_task(const HttpExchangePtr& exchange) {
  const auto unknown = [exchange] {
    exchange->reply(failure_reply(make_failure(Outcome::NOT_FOUND, "no such task", "task_id"), Envelope::orch_queue));
  };
  const auto job = task_id();
  if (!job) return unknown();
  desk.cancel(*job, owner_of(exchange->request()), [exchange, unknown](bool found) {
    if (!found) return unknown();
    exchange->reply(HttpResponse::empty(204));
  });
}

void HttpApi::Parts::explain_task(const HttpExchangePtr& exchange) {
  const auto job = task_id();
  std::optional<std::string> text;
  if (job && core.may_see_decisions(*job, owner_of(exchange->request())))
    text = explain_json(core, *job, runtime::now());
  if (text) return exchange->reply(HttpResponse::json(200, std::move(*text)));
  exchange->reply(failure_reply(make_failure(Outcome::NOT_FOUND, "no decision about this task is kept", "task_id"),
                                Envelope::orch_queue));
}

// ORCH-2004. A session is its tenant's; an operator's key sees those of tenant `default`.
void HttpApi::Parts::get_model(const HttpExchangePtr& exchange) {
  const std::string& name = params.front().second;
  if (auto body = model_json(core, name)) return exchange->reply(HttpResponse::json(200, std::move(*body)));
  exchange->reply(failure_reply(make_failure(Outcome::MODEL_NOT_FOUND, "no live replica serves this model", "model"),
                                Envelope::openai));
}

void HttpApi::Parts::get_session(const HttpExchangePtr& exchange) {
  const std::string& id = params.front().second;
  const auto standing = core.budgets().session(tenant_of(exchange->request()), id, runtime::now());
  if (standing) return exchange->reply(HttpResponse::json(200, session_json(id, *standing)));
  exchange->reply(
      failure_reply(make_failure(Outcome::NOT_FOUND, "no such session", "session_id"), Envelope::orch_queue));
}

// ORCH-2005.
void HttpApi::Parts::delete_session(const HttpExchangePtr& exchange) {
  desk.end_session(tenant_of(exchange->request()), params.front().second, [exchange](bool found) {
    if (found) return exchange->reply(HttpResponse::empty(204));
    exchange->reply(
        failure_reply(make_failure(Outcome::NOT_FOUND, "no such session", "session_id"), Envelope::orch_queue));
  });
}

void HttpApi::Parts::set_model_state(const HttpExchangePtr& exchange) {
  auto change = parse_model_state(exchange->take_body());
  if (!change.ok()) return exchange->reply(failure_reply(change.error(), Envelope::orch_queue));
  desk.set_model_state(change->first, change->second, [this, exchange](const std::optional<Failure>& failure) {
    exchange->reply(failure ? failure_reply(*failure, Envelope::orch_queue)
                            : HttpResponse::json(200, admin_models_json(core)));
  });
}

// OC-MODEL-1006.
void HttpApi::Parts::roll_back_model(const HttpExchangePtr& exchange) {
  auto name = parse_model_name(exchange->take_body());
  if (!name.ok()) return exchange->reply(failure_reply(name.error(), Envelope::orch_queue));
  desk.roll_back_model(std::move(name).value(), [this, exchange](const std::optional<Failure>& failure) {
    exchange->reply(failure ? failure_reply(*failure, Envelope::orch_queue)
                            : HttpResponse::json(200, admin_models_json(core)));
  });
}

HttpApi::HttpApi(runtime::EventLoop& loop, OrchId self, const gateway_config::Config& config,
                 const runtime::KeyRing& keys, const Orchestrator& core, ClientDesk& desk, Hooks hooks)
    : parts_(std::make_unique<Parts>(self, config, keys, core, desk, std::move(hooks))) {
  parts_->add_routes();
  runtime::HttpLimits limits;
  limits.body_bytes = config.http.body_bytes_max;
  limits.header_bytes = config.http.header_bytes_max;
  limits.connections = config.http.connections_max;
  limits.idle_timeout = Duration::milliseconds(config.http.idle_timeout_ms);
  runtime::HttpHooks server_hooks;
  Parts* parts = parts_.get();
  server_hooks.on_head = [parts](const HttpRequest& request) { return parts->judge(request); };
  server_hooks.on_request = [parts](const HttpExchangePtr& exchange) { parts->route(exchange); };
  server_hooks.on_error = [](const runtime::HttpServerError& error) { return server_error_reply(error); };
  server_hooks.on_answered = [parts](const HttpRequest& request, int status) {
    const auto match = parts->router.find(request.method, request.path);
    parts->hooks.on_answered(match.pattern.empty() ? "other" : match.pattern, status);
  };
  parts_->server.emplace(loop, limits, std::move(server_hooks));
}

HttpApi::~HttpApi() = default;

Result<std::uint16_t, runtime::ListenError> HttpApi::listen(const runtime::ListenAddress& address) {
  return parts_->server->listen(address);
}

void HttpApi::drain(std::function<void()> on_drained) { parts_->server->drain(std::move(on_drained)); }

void HttpApi::close() { parts_->server->close(); }

}  // namespace orch::gateway
