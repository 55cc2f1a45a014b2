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

// What both routes take alike.
void read_common(JsonFields& fields, JobId id, ChatRequest& request, JobPayload& payload) {
  JobSpec& spec = request.spec;
  spec.id = id;
  spec.attachment = Attachment::attached;
  request.model = fields.string("model", true, 1, kModelRefBytesMax);
  spec.model_ref = request.model;
  read_streaming(fields, request);
  request.choices = static_cast<std::uint32_t>(fields.integer("n", false, 1, kChoicesMax).value_or(1));
  const auto seed = fields.integer("seed", false, 0, kSeedMax);
  payload.sampling.seed = seed ? *seed : runtime::seed_of_task(id.to_string());
  read_sampling(fields, payload.sampling);
  read_stop(fields, payload.stop);
  spec.determinism =
      fields.choice("determinism", {"best_effort", "strict"}, 0) == 0 ? Determinism::best_effort : Determinism::strict;
  spec.require_gpu = fields.boolean("require_gpu", false);
  fields.string("user", false, 0, kModelRefBytesMax);  // for the caller's own bookkeeping; changes nothing
}

// A string, also as the one item of an array.
void read_completion_prompt(JsonFields& fields, Prompt& prompt) {
  const json* value = fields.any("prompt");
  if (value == nullptr) return fields.fail("prompt", "is required");
  if (value->is_array() && value->size() == 1) value = &value->front();
  if (value->is_array() && !value->empty()) {
    return fields.fail_not_built("prompt", "as several prompts or as token ids is not built yet");
  }
  if (value->is_number_integer()) return fields.fail_not_built("prompt", "as token ids is not built yet");
  if (!value->is_string()) return fields.fail("prompt", "must be a string");
  prompt.text = value->get<std::string>();
  if (prompt.text.empty()) fields.fail("prompt", "must not be empty");
}

// Parameters of the route that only its plainest value leaves alone.
void read_completion_not_built(JsonFields& fields, std::uint32_t choices) {
  if (fields.boolean("echo", false)) fields.fail_not_built("echo", "is not built yet");
  if (!fields.string("suffix", false, 0, kPromptBytesMax).empty()) fields.fail_not_built("suffix", "is not built yet");
  const auto best_of = fields.integer("best_of", false, 1, kChoicesMax);
  if (best_of && *best_of != choices) fields.fail_not_built("best_of", "other than n is not built yet");
}

}  // namespace

Result<ChatRequest, Failure> parse_chat_request(std::string_view body, JobId id) {
  ORCH_TRY(document, parse_json_object(body));
  JsonFields fields(document, "");
  ChatRequest chat;
  JobPayload payload;
  read_common(fields, id, chat, payload);
  read_messages(fields, payload.prompt);
  read_max_tokens(fields, chat.spec);
  read_log_probs(fields, payload);
  read_response_format(fields, body, payload);
  read_not_built(fields);
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  attach_payload(chat.spec, std::move(payload));
  return chat;
}

// OC-OAI-1013.
Result<ChatRequest, Failure> parse_completion_request(std::string_view body, JobId id) {
  ORCH_TRY(document, parse_json_object(body));
  JsonFields fields(document, "");
  ChatRequest completion;
  completion.form = AnswerForm::text;
  JobPayload payload;
  read_common(fields, id, completion, payload);
  read_completion_prompt(fields, payload.prompt);
  const auto max_tokens = fields.integer("max_tokens", false, 1, kMaxTokensMax);
  completion.spec.max_tokens = static_cast<std::uint32_t>(max_tokens.value_or(kCompletionMaxTokensDefault));
  if (const auto top = fields.integer("logprobs", false, 0, kTopLogProbsMax))
    payload.log_probs = static_cast<std::uint32_t>(*top);
  read_completion_not_built(fields, completion.choices);
  if (auto failure = fields.finish()) return Err{std::move(*failure)};
  attach_payload(completion.spec, std::move(payload));
  return completion;
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
