#include "adapters/core/llama_cpp.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "adapters/core/json_reads.h"
#include "adapters/core/llama_cpp_generation.h"
#include "adapters/core/unsupported.h"
#include "adapters/core/upstream_error.h"
#include "common/grammar/json_tree.h"

namespace orch::adapter {
namespace {

using nlohmann::json;

EngineView not_ready(EngineView::State state, std::string detail) {
  EngineView view;
  view.state = state;
  view.detail = std::move(detail);
  return view;
}

}  // namespace

Result<std::unique_ptr<Conversation>, EngineFailure> LlamaCppDialect::generate(const GenerationRequest& request) const {
  if (!request.resume_ids.empty()) {
    // M4: an adapter's job runs again only before its first token, so nothing can be resumed here.
    return Err{EngineFailure{.outcome = Outcome::INVALID_PARAMS,
                             .message = "resume_ids: this engine cannot continue an earlier attempt",
                             .field = "resume_ids"}};
  }
  if (auto refusal = refuse_scores(request, engine())) return Err{std::move(*refusal)};
  using grammar::ConstraintKind;
  if (request.constraint && request.constraint->kind == ConstraintKind::regex) {
    return Err{*refuse_constraint(request, engine())};
  }
  if (request.constraint && request.constraint->kind == ConstraintKind::json_schema &&
      !grammar::parse_json(request.constraint->text).ok()) {
    return Err{EngineFailure{.outcome = Outcome::INVALID_PARAMS,
                             .message = "constraint.json_schema: not JSON",
                             .field = "constraint.json_schema"}};
  }
  return std::unique_ptr<Conversation>(std::make_unique<LlamaCppGeneration>(request));
}

std::unique_ptr<Conversation> LlamaCppDialect::count(const EnginePrompt& prompt) const {
  return std::make_unique<LlamaCppCount>(prompt);
}

std::vector<HttpRequest> LlamaCppDialect::probes() const {
  return {{.path = "/health", .body = {}},
          {.path = "/props", .body = {}},
          {.path = "/v1/models", .body = {}},
          {.path = "/slots", .body = {}}};
}

EngineView LlamaCppDialect::read_probes(const std::vector<HttpReply>& replies) const {
  using State = EngineView::State;
  if (replies.size() != probes().size() || replies[0].status == 0)
    return not_ready(State::dead, "no answer from the engine");
  const HttpReply& health = replies[0];
  if (health.status == 503) return not_ready(State::loading, "the engine is loading its model");
  if (health.status != 200) return not_ready(State::dead, failure_of_status(health.status, health.body).message);
  if (replies[1].status == 401 || replies[1].status == 403) {
    return not_ready(State::refused, failure_of_status(replies[1].status, {}).message);
  }
  const json props = parse_json(replies[1].body);
  if (replies[1].status != 200 || !props.is_object()) return not_ready(State::dead, "/props: no readable answer");

  EngineView view;
  view.state = State::ready;
  view.engine_version = string_at(props, "build_info");
  view.model_path = string_at(props, "model_path");
  view.model_name = string_at(props, "model_alias");
  view.quant = string_at(props, "model_ftype");
  view.template_available = !string_at(props, "chat_template").empty();
  view.slots = number_at(props, "total_slots");
  if (const auto settings = props.find("default_generation_settings");
      settings != props.end() && settings->is_object()) {
    view.ctx_max = number_at(*settings, "n_ctx");
  }
  const json models = parse_json(replies[2].body);
  if (models.is_object() && models.contains("data") && models["data"].is_array() && !models["data"].empty()) {
    if (view.model_name.empty()) view.model_name = string_at(models["data"][0], "id");
  }
  view.slots_visible = busy_slots(replies[3]).has_value();
  if (view.slots == 0 || view.ctx_max == 0) return not_ready(State::dead, "/props: total_slots or n_ctx is missing");
  return view;
}

HttpRequest LlamaCppDialect::slots_probe() const { return {.path = "/slots", .body = {}}; }

std::optional<std::uint32_t> LlamaCppDialect::busy_slots(const HttpReply& reply) const {
  if (reply.status != 200) return std::nullopt;  // 501: started without the endpoint
  const json slots = parse_json(reply.body);
  if (!slots.is_array()) return std::nullopt;
  std::uint32_t busy = 0;
  for (const json& slot : slots) {
    if (!slot.is_object()) return std::nullopt;
    const auto found = slot.find("is_processing");
    if (found == slot.end() || !found->is_boolean()) return std::nullopt;
    if (found->get<bool>()) ++busy;
  }
  return busy;
}

}  // namespace orch::adapter
