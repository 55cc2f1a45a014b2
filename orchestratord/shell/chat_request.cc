#include "orchestratord/shell/chat_request.h"

#include "common/runtime/entropy.h"
#include "orchestratord/shell/json_fields.h"
#include "orchestratord/shell/request_limits.h"
#include "orchestratord/shell/task_request.h"

namespace orch::gateway {
using nlohmann::json;

namespace {

void read_max_tokens(JsonFields& fields, JobSpec& spec) {
  const auto old_name = fields.integer("max_tokens", false, 1, kMaxTokensMax);
  const auto new_name = fields.integer("max_completion_tokens", false, 1, kMaxTokensMax);
  if (old_name && new_name && *old_name != *new_name) {
    fields.fail("max_completion_tokens", "and max_tokens differ; give one of them");
  }
  spec.max_tokens = static_cast<std::uint32_t>(new_name.value_or(old_name.value_or(0)));
}

void read_streaming(JsonFields& fields, ChatRequest& chat) {
  chat.stream = fields.boolean("stream", false);
  const json* options = fields.object("stream_options");
  if (options == nullptr) return;
  if (!chat.stream) return fields.fail("stream_options", "is allowed with stream: true only");
  JsonFields inner(*options, fields.path_of("stream_options"));
  chat.include_usage = inner.boolean("include_usage", false);
  if (auto failure = inner.finish()) fields.adopt(std::move(*failure));
}

bool is_neutral(std::string_view name, const json& value) {
  if (name == "frequency_penalty" || name == "presence_penalty") return value.is_number() && value.get<double>() == 0.0;
  if (name == "logprobs") return value.is_boolean() && !value.get<bool>();
  if (name == "response_format") return value == json{{"type", "text"}};
  return (value.is_object() || value.is_array()) && value.empty();
}

void read_not_built(JsonFields& fields) {
  for (const std::string_view name : {"frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs",
                                      "response_format", "tools", "tool_choice", "functions", "function_call"}) {
    const json* value = fields.any(name);
    if (value != nullptr && !is_neutral(name, *value)) fields.fail_not_built(name, "is not built yet");
  }
}

}  // namespace

Result<ChatRequest, Failure> parse_chat_request(std::string_view body, JobId id) {
  ORCH_TRY(document, parse_json_object(body));
  JsonFields fields(document, "");
  ChatRequest chat;
  JobSpec& spec = chat.spec;
  JobPayload payload;

  spec.id = id;
  spec.attachment = Attachment::attached;
  chat.model = fields.string("model", true, 1, kModelRefBytesMax);
  spec.model_ref = chat.model;
  read_messages(fields, payload.prompt);
  read_max_tokens(fields, spec);
  read_streaming(fields, chat);
  const auto choices = fields.integer("n", false, 0, kMaxTokensMax);
  if (choices && *choices != 1) fields.fail("n", "must be 1");
  const auto seed = fields.integer("seed", false, 0, kSeedMax);
  payload.sampling.seed = seed ? *seed : runtime::seed_of_task(id.to_string());
  read_sampling(fields, payload.sampling);
  read_stop(fields, payload.stop);
  spec.determinism =
      fields.choice("determinism", {"best_effort", "strict"}, 0) == 0 ? Determinism::best_effort : Determinism::strict;
  spec.require_gpu = fields.boolean("require_gpu", false);
  fields.string("user", false, 0, kModelRefBytesMax);  // for the caller's own bookkeeping; changes nothing
  read_not_built(fields);
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  attach_payload(spec, std::move(payload));
  return chat;
}

}  // namespace orch::gateway
