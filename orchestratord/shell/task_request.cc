#include "orchestratord/shell/task_request.h"

#include <algorithm>

#include "common/runtime/entropy.h"
#include "orchestratord/shell/constraint_request.h"
#include "orchestratord/shell/request_limits.h"
#include "orchestratord/shell/sampling_fields.h"

namespace orch::gateway {
using nlohmann::json;

namespace {

// A string, or an array of text parts that are joined.
std::string read_content(JsonFields& message) {
  const json* value = message.any("content");
  if (value == nullptr) {
    message.fail("content", "is required");
    return {};
  }
  if (value->is_string()) {
    if (value->get_ref<const std::string&>().empty()) message.fail("content", "must not be empty");
    return value->get<std::string>();
  }
  if (!value->is_array() || value->empty() || value->size() > kContentPartsMax) {
    message.fail("content", "must be a string or 1.." + std::to_string(kContentPartsMax) + " text parts");
    return {};
  }
  std::string text;
  for (std::size_t i = 0; i < value->size(); ++i) {
    const std::string path = message.path_of("content") + "[" + std::to_string(i) + "]";
    if (!(*value)[i].is_object()) {
      message.adopt(invalid(path, path + " must be an object"));
      return {};
    }
    JsonFields part((*value)[i], path);
    part.choice("type", {"text"}, 0);
    if (!part.has("type")) part.fail("type", "is required");
    text += part.string("text", true, 1, kPromptBytesMax);
    if (auto failure = part.finish()) {
      message.adopt(std::move(*failure));
      return {};
    }
  }
  return text;
}

// Names of pools, replicas or devices, as a set.
std::vector<std::string> read_names(JsonFields& fields, std::string_view name) {
  std::vector<std::string> out;
  const json* values = fields.array(name, false, 1, kPlacementNamesMax);
  if (values == nullptr) return out;
  for (std::size_t i = 0; i < values->size(); ++i) {
    const json& value = (*values)[i];
    const std::string path = fields.path_of(name) + "[" + std::to_string(i) + "]";
    if (!value.is_string() || value.get_ref<const std::string&>().empty() ||
        value.get_ref<const std::string&>().size() > kPlacementNameBytesMax) {
      fields.adopt(
          invalid(path, path + " must be a string of 1.." + std::to_string(kPlacementNameBytesMax) + " bytes"));
      return {};
    }
    out.push_back(value.get<std::string>());
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

// OC-CORE-1015.
void read_placement(JsonFields& fields, PlacementWish& wish) {
  const json* object = fields.object("placement");
  if (object == nullptr) return;
  JsonFields placement(*object, fields.path_of("placement"));
  wish.pin = placement.string("pin", false, 1, kPlacementNameBytesMax);
  wish.prefer = read_names(placement, "prefer");
  wish.avoid = read_names(placement, "avoid");
  wish.devices = read_names(placement, "devices");
  wish.allow_fallback = placement.boolean("allow_fallback", true);
  if (auto failure = placement.finish()) fields.adopt(std::move(*failure));
}

}  // namespace

void read_messages(JsonFields& fields, Prompt& prompt) {
  const json* messages = fields.array("messages", true, 1, kMessagesMax);
  if (messages == nullptr) return;
  prompt.messages.reserve(messages->size());
  for (std::size_t i = 0; fields.ok() && i < messages->size(); ++i) {
    const std::string path = fields.path_of("messages") + "[" + std::to_string(i) + "]";
    if (!(*messages)[i].is_object()) return fields.adopt(invalid(path, path + " must be an object"));
    JsonFields message((*messages)[i], path);
    ChatMessage out;
    if (!message.has("role")) message.fail("role", "is required");
    // "developer" is the newer name of "system"; templates know the older one.
    static constexpr std::string_view kRoles[] = {"system", "user", "assistant", "system"};
    out.role = kRoles[message.choice("role", {"system", "user", "assistant", "developer"}, 1)];
    out.content = read_content(message);
    if (auto failure = message.finish()) return fields.adopt(std::move(*failure));
    prompt.messages.push_back(std::move(out));
  }
}

void read_sampling(JsonFields& fields, Sampling& sampling) {
  if (const auto value = fields.number("temperature", 0, kTemperatureMax))
    sampling.temperature = static_cast<float>(*value);
  if (const auto value = fields.number("top_p", 0, 1, true)) sampling.top_p = static_cast<float>(*value);
  if (const auto value = fields.number("min_p", 0, 1)) sampling.min_p = static_cast<float>(*value);
  if (const auto value = fields.integer("top_k", false, 0, kTopKMax))
    sampling.top_k = static_cast<std::uint32_t>(*value);
  read_shaping(fields, sampling);
}

void read_stop(JsonFields& fields, std::vector<std::string>& stop) {
  const json* value = fields.any("stop");
  if (value == nullptr) return;
  const auto take = [&](const json& item, const std::string& path) {
    if (!item.is_string() || item.get_ref<const std::string&>().empty() ||
        item.get_ref<const std::string&>().size() > kStopBytesMax) {
      fields.adopt(invalid(path, path + " must be a string of 1.." + std::to_string(kStopBytesMax) + " bytes"));
      return;
    }
    stop.push_back(item.get<std::string>());
  };
  if (!value->is_array()) return take(*value, fields.path_of("stop"));
  if (value->size() > kStopsMax)
    return fields.fail("stop", "must have at most " + std::to_string(kStopsMax) + " items");
  for (std::size_t i = 0; i < value->size(); ++i)
    take((*value)[i], fields.path_of("stop") + "[" + std::to_string(i) + "]");
}

void attach_payload(JobSpec& spec, JobPayload payload) {
  spec.prompt_bytes = payload.prompt.text.size();
  for (const ChatMessage& message : payload.prompt.messages)
    spec.prompt_bytes += message.role.size() + message.content.size();
  spec.prompt_messages = static_cast<std::uint32_t>(payload.prompt.messages.size());
  spec.payload = std::make_shared<const JobPayload>(std::move(payload));
}

Result<JobSpec, Failure> parse_task_request(std::string_view body) {
  ORCH_TRY(document, parse_json_object(body));
  JsonFields fields(document, "");
  JobSpec spec;
  JobPayload payload;

  const std::string task_id = fields.string("task_id", true, 1, 64);
  const auto id = Uuid::parse(task_id);
  if (fields.ok() && (!id || id->is_nil())) fields.fail("task_id", "must be a UUID of 36 characters");
  if (id) spec.id = JobId{*id};
  spec.session = fields.string("session_id", false, 1, 64);
  if (!spec.session.empty() && !Uuid::parse(spec.session)) fields.fail("session_id", "must be a UUID of 36 characters");
  if (fields.choice("workload", {"completion", "embedding", "rerank"}, 0) != 0) {
    fields.fail_not_built("workload", "other than completion is not built yet");
  }
  spec.model_ref = fields.string("model_ref", true, 1, kModelRefBytesMax);
  // Hints of the founding contract. The model decides the engine and its context here, so they constrain nothing.
  fields.choice("engine", {"native", "llamacpp", "vllm", "tgi", "triton", "sglang", "mlx", "ollama", "openai", "mock"},
                0);
  fields.integer("ctx", false, 1, 0x7FFF'FFFF);
  fields.integer("expected_tokens", false, 0, 0x7FFF'FFFF);
  fields.choice("kv_hint", {"reuse", "cold"}, 0);

  spec.priority = fields.choice("priority", {"interactive", "batch"}, 0) == 0 ? Priority::interactive : Priority::batch;
  if (const auto value = fields.integer("max_tokens", true, 1, kMaxTokensMax))
    spec.max_tokens = static_cast<std::uint32_t>(*value);
  if (const auto value = fields.integer("deadline_ms", false, 1, kDeadlineMsMax)) {
    spec.deadline = Duration::milliseconds(static_cast<std::int64_t>(*value));
  }
  const auto seed = fields.integer("seed", false, 0, kSeedMax);
  payload.sampling.seed = seed ? *seed : runtime::seed_of_task(spec.id.to_string());
  spec.determinism =
      fields.choice("determinism", {"best_effort", "strict"}, 0) == 0 ? Determinism::best_effort : Determinism::strict;
  spec.attachment = fields.boolean("detached", false) ? Attachment::detached : Attachment::task;
  spec.require_gpu = fields.boolean("require_gpu", false);
  spec.store = fields.boolean("store", true);
  read_sampling(fields, payload.sampling);
  read_log_probs(fields, payload);
  read_stop(fields, payload.stop);
  read_constraint(fields, body, payload);
  read_placement(fields, spec.wish);
  for (const std::string_view name : {"inputs", "sampler_profile_version"}) {
    if (fields.any(name) != nullptr) fields.fail_not_built(name, "is not built yet");
  }

  if (fields.has("messages") && fields.has("prompt")) fields.fail("messages", "and prompt exclude each other");
  if (fields.has("messages")) {
    read_messages(fields, payload.prompt);
    fields.any("prompt");
  } else {
    payload.prompt.text = fields.string("prompt", true, 1, kPromptBytesMax);
    fields.any("messages");
  }
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  attach_payload(spec, std::move(payload));
  return spec;
}

}  // namespace orch::gateway
