#include "orchestratord/shell/model_store.h"

#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "common/runtime/json_text.h"
#include "orchestratord/shell/json_fields.h"
#include "orchestratord/shell/request_limits.h"

namespace orch::gateway {
namespace {

using runtime::JsonObject;

enum class Listed : std::uint8_t { for_people, for_the_next_start };

void append_model(std::string& out, const ModelKey& model, const ModelStanding& standing, Listed listed) {
  JsonObject json(out);
  json.string("name", model.name).string("digest", model.digest).string("state", model_state_name(standing.state));
  if (standing.state == ModelState::canary) json.number("percent", std::uint64_t{standing.percent});
  if (standing.unloaded && listed == Listed::for_the_next_start) json.boolean("unloaded", true);
  json.close();
}

std::string list_json(const ModelStandings& standings, Listed listed) {
  std::string out = R"({"models":[)";
  bool first = true;
  for (const auto& [model, standing] : standings) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_model(out, model, standing, listed);
  }
  return out + "]}";
}

std::string read_digest(JsonFields& fields) {
  std::string digest = fields.string("digest", true, 0, kModelRefBytesMax);
  if (!digest.empty() && !digest.starts_with("sha256:")) fields.fail("digest", "must be empty or start with sha256:");
  return digest;
}

std::pair<ModelKey, ModelStanding> read_model(JsonFields& fields) {
  std::pair<ModelKey, ModelStanding> out;
  out.first.name = fields.string("name", true, 1, kModelRefBytesMax);
  out.first.digest = read_digest(fields);
  if (!fields.has("state")) fields.fail("state", "is required");
  static constexpr ModelState kStates[] = {ModelState::draft, ModelState::active, ModelState::canary,
                                           ModelState::deprecated, ModelState::retired};
  out.second.state = kStates[fields.choice("state", {"draft", "active", "canary", "deprecated", "retired"}, 1)];
  if (const auto percent = fields.integer("percent", out.second.state == ModelState::canary, 1, 100))
    out.second.percent = static_cast<std::uint32_t>(*percent);
  return out;
}

}  // namespace

std::string standings_json(const ModelStandings& standings) { return list_json(standings, Listed::for_the_next_start); }

Result<ModelStandings, std::string> parse_standings(std::string_view text) {
  auto document = parse_json_object(text);
  if (!document.ok()) return Err{document.error().message};
  JsonFields fields(*document, "");
  ModelStandings out;
  const nlohmann::json* models = fields.array("models", true, 0, ModelLifecycle::kModelsMax);
  for (std::size_t i = 0; models != nullptr && i < models->size(); ++i) {
    const std::string path = "models[" + std::to_string(i) + "]";
    if (!(*models)[i].is_object()) return Err{path + " must be an object"};
    JsonFields model((*models)[i], path);
    auto read = read_model(model);
    read.second.unloaded = model.boolean("unloaded", false);
    out.insert(std::move(read));
    if (const auto failure = model.finish()) return Err{failure->message};
  }
  if (const auto failure = fields.finish()) return Err{failure->message};
  return out;
}

Result<ModelStandings, std::string> load_standings(const std::string& state_dir) {
  std::ifstream file(state_dir + "/" + kModelsFile, std::ios::binary);
  if (!file) return ModelStandings{};
  std::ostringstream text;
  text << file.rdbuf();
  return parse_standings(text.str());
}

std::string admin_models_json(const Orchestrator& core) {
  ModelStandings all = core.lifecycle().all();
  for (const auto& [manager, record] : core.fleet().managers()) {
    for (const auto& [id, replica] : record.replicas) {
      const ModelKey key{replica.model_name, replica.model_digest};
      if (!key.name.empty()) all.try_emplace(key, core.lifecycle().of(key));
    }
  }
  return list_json(all, Listed::for_people);
}

Result<std::pair<ModelKey, ModelStanding>, Failure> parse_model_state(std::string_view body) {
  ORCH_TRY(document, parse_json_object(body));
  JsonFields fields(document, "");
  auto out = read_model(fields);
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  return out;
}

Result<std::string, Failure> parse_model_name(std::string_view body) {
  ORCH_TRY(document, parse_json_object(body));
  JsonFields fields(document, "");
  std::string name = fields.string("name", true, 1, kModelRefBytesMax);
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  return name;
}

}  // namespace orch::gateway
