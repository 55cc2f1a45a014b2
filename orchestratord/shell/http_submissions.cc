#include "orchestratord/shell/http_submissions.h"

#include <algorithm>
#include <ctime>
#include <optional>
#include <utility>
#include <vector>

#include "common/runtime/clock.h"
#include "common/runtime/entropy.h"
#include "common/runtime/json_text.h"
#include "orchestratord/shell/budget_text.h"
#include "orchestratord/shell/chat_choices.h"
#include "orchestratord/shell/failure_reply.h"
#include "orchestratord/shell/idempotency.h"
#include "orchestratord/shell/json_fields.h"
#include "orchestratord/shell/request_limits.h"
#include "orchestratord/shell/task_request.h"

namespace orch::gateway {
namespace {

using runtime::HttpExchangePtr;
using runtime::HttpRequest;
using runtime::HttpResponse;

std::string admitted_json(const Admitted& admitted, const TaskHome& home) {
  std::string out;
  runtime::JsonObject json(out);
  json.string("task_id", admitted.job.to_string())
      .number("queue_position", std::uint64_t{admitted.queue_position})
      .number("predicted_start_ms",
              static_cast<std::uint64_t>(std::max<std::int64_t>(0, admitted.predicted_start.ms())))
      .number("backoff_ms", std::uint64_t{0});
  if (admitted.estimated) json.boolean("estimated", true);
  if (admitted.on_time_probability) json.number("on_time_probability", *admitted.on_time_probability);
  json.key("links") += home.links(admitted.job);
  json.close();
  return out;
}

}  // namespace

std::uint32_t default_chat_tokens(const Orchestrator& core, const std::string& model_ref) {
  std::uint32_t context = 0;
  if (const auto lane = core.fleet().resolve(model_ref)) context = core.fleet().status(*lane).ctx_max;
  return context == 0 ? kChatMaxTokensDefault : std::max(1U, std::min(kChatMaxTokensDefault, context / 2));
}

bool HttpSubmissions::takes(const HttpRequest& request) {
  return request.method == "POST" && std::ranges::find(kPaths, request.path) != kPaths.end();
}

runtime::HttpVerdict HttpSubmissions::let_in(const HttpRequest& request, const std::string& tenant) {
  auto let = desk_.let_in(tenant, idempotency_key(request.header("Idempotency-Key"), tenant));
  if (!let.ok()) return {failure_reply(let.error(), envelope_of(request.path))};
  runtime::HttpVerdict verdict;
  verdict.handler = [this, tenant, place = std::move(let).value()](const HttpExchangePtr& exchange) {
    const std::string_view path = exchange->request().path;
    if (path == kTasks) return post_task(exchange, tenant, *place);
    complete(exchange, path == kChat ? AnswerForm::chat : AnswerForm::text, tenant, *place);
  };
  return verdict;
}

SinkLimits HttpSubmissions::sink_limits(std::string tenant, std::string session) const {
  return {config_.streams.reader_bytes_max, Duration::milliseconds(config_.streams.heartbeat_ms),
          [this, tenant = std::move(tenant), session = std::move(session)](HttpResponse& head) {
            add_budget_headers(head, core_.budget_left(tenant, session, runtime::now()));
          }};
}

void HttpSubmissions::post_task(const HttpExchangePtr& exchange, const std::string& tenant, LetIn& let_in) {
  const std::string body = exchange->take_body();
  auto spec = parse_task_request(body);
  if (!spec.ok()) return exchange->reply(failure_reply(spec.error(), Envelope::orch_queue));
  spec->tenant = tenant;
  const auto idempotency = read_idempotency(exchange->request().header("Idempotency-Key"), spec->tenant, body);
  if (!idempotency.ok()) return exchange->reply(failure_reply(idempotency.error(), Envelope::orch_queue));
  spec->idempotency = *idempotency;
  desk_.submit(let_in, std::move(spec).value(), [this, exchange](const std::variant<Admitted, Failure>& result) {
    if (const auto* failure = std::get_if<Failure>(&result))
      return exchange->reply(failure_reply(*failure, Envelope::orch_queue));
    const Admitted& admitted = std::get<Admitted>(result);
    HttpResponse response = HttpResponse::json(202, admitted_json(admitted, home_));
    if (admitted.repeated) response.with("Idempotent-Replayed", "true");
    add_budget_headers(response, admitted.budget);
    exchange->reply(std::move(response));
  });
}

void HttpSubmissions::complete(const HttpExchangePtr& exchange, AnswerForm form, const std::string& tenant,
                               LetIn& let_in) {
  const JobId id{runtime::random_uuid()};
  const std::string body = exchange->take_body();
  auto parsed = form == AnswerForm::chat ? parse_chat_request(body, id) : parse_completion_request(body, id);
  if (!parsed.ok()) return exchange->reply(failure_reply(parsed.error(), Envelope::openai));
  ChatRequest request = std::move(parsed).value();
  request.spec.tenant = tenant;
  const auto idempotency = read_idempotency(exchange->request().header("Idempotency-Key"), request.spec.tenant, body);
  if (!idempotency.ok()) return exchange->reply(failure_reply(idempotency.error(), Envelope::openai));
  request.spec.idempotency = *idempotency;
  // A request that may be repeated outlives its connection as long as a posted task does.
  if (request.spec.idempotency) request.spec.attachment = Attachment::task;
  if (request.spec.max_tokens == 0) request.spec.max_tokens = default_chat_tokens(core_, request.spec.model_ref);
  const std::string task_id = id.to_string();
  ChatIdentity identity{answer_id(request.form, task_id), request.model, static_cast<std::int64_t>(std::time(nullptr)),
                        request.spec.payload->log_probs.has_value(), request.form};
  if (request.choices > 1) return chat_choices(exchange, request, std::move(identity), let_in);
  SinkLimits limits = sink_limits(request.spec.tenant, request.spec.session);
  std::unique_ptr<ReaderSink> sink =
      request.stream
          ? make_chat_stream_sink(exchange, std::move(limits), std::move(identity), request.include_usage, task_id)
          : make_chat_whole_sink(exchange, std::move(limits), std::move(identity), task_id);
  const ReaderId reader = desk_.submit_attached(let_in, std::move(request.spec), std::move(sink));
  exchange->on_disconnect([this, reader] { desk_.gone(reader); });
}

// OC-OAI-1012.
void HttpSubmissions::chat_choices(const HttpExchangePtr& exchange, const ChatRequest& request, ChatIdentity identity,
                                   LetIn& let_in) {
  if (request.spec.idempotency) {
    return exchange->reply(
        failure_reply(invalid("n", "n above 1 and an Idempotency-Key exclude each other"), Envelope::openai));
  }
  struct Begun {
    std::vector<ReaderId> readers;
    bool over = false;  // a choice failed: nobody reads another one
  };
  const auto begun = std::make_shared<Begun>();
  ChatChoicesSetup setup;
  setup.exchange = exchange;
  setup.limits = sink_limits(request.spec.tenant, request.spec.session);
  setup.identity = std::move(identity);
  setup.task_id = request.spec.id.to_string();
  setup.choices = request.choices;
  setup.stream = request.stream;
  setup.include_usage = request.include_usage;
  setup.abandon = [this, begun](std::uint32_t choice) {
    begun->over = true;
    if (choice < begun->readers.size()) desk_.gone(begun->readers[choice]);
  };
  auto sinks = make_chat_choice_sinks(std::move(setup));
  for (std::uint32_t i = 0; i < request.choices && !begun->over; ++i) {
    begun->readers.push_back(
        desk_.submit_attached(let_in, spec_of_choice(request, i, JobId{runtime::random_uuid()}), std::move(sinks[i])));
    // An earlier choice may have failed by this one's admission, before this one had a reader to abandon.
    if (begun->over) desk_.gone(begun->readers.back());
  }
  exchange->on_disconnect([this, begun] {
    for (const ReaderId reader : begun->readers) desk_.gone(reader);
  });
}

}  // namespace orch::gateway
