#include "orchestratord/shell/chat_request.h"

#include "common/runtime/entropy.h"
#include "orchestratord/shell/constraint_request.h"
#include "orchestratord/shell/json_fields.h"
#include "orchestratord/shell/request_limits.h"
#include "orchestratord/shell/sampling_fields.h"
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

bool is_neutral(const json& value) { return (value.is_object() || value.is_array()) && value.empty(); }

void read_not_built(JsonFields& fields) {
  for (const std::string_view name : {"tools", "tool_choice", "functions", "function_call"}) {
    const json* value = fields.any(name);
    if (value != nullptr && !is_neutral(*value)) fields.fail_not_built(name, "is not built yet");
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
  chat.choices = static_cast<std::uint32_t>(fields.integer("n", false, 1, kChoicesMax).value_or(1));
  const auto seed = fields.integer("seed", false, 0, kSeedMax);
  payload.sampling.seed = seed ? *seed : runtime::seed_of_task(id.to_string());
  read_sampling(fields, payload.sampling);
  read_log_probs(fields, payload);
  read_stop(fields, payload.stop);
  read_response_format(fields, body, payload);
  spec.determinism =
      fields.choice("determinism", {"best_effort", "strict"}, 0) == 0 ? Determinism::best_effort : Determinism::strict;
  spec.require_gpu = fields.boolean("require_gpu", false);
  fields.string("user", false, 0, kModelRefBytesMax);  // for the caller's own bookkeeping; changes nothing
  read_not_built(fields);
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  attach_payload(spec, std::move(payload));
  return chat;
}

JobSpec spec_of_choice(const ChatRequest& request, std::uint32_t choice, JobId id) {
  JobSpec spec = request.spec;
  if (choice == 0) return spec;
  spec.id = id;
  auto payload = std::make_shared<JobPayload>(*request.spec.payload);
  payload->sampling.choice = choice;
  spec.payload = std::move(payload);
  return spec;
}

}  // namespace orch::gateway
