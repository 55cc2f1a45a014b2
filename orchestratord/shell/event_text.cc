#include "orchestratord/shell/event_text.h"

#include <algorithm>
#include <utility>

#include "common/runtime/json_text.h"
#include "orchestratord/shell/budget_text.h"
#include "orchestratord/shell/log_prob_text.h"

namespace orch::gateway {
using runtime::append_json_string;
using runtime::append_number;
using runtime::JsonObject;

namespace {

std::uint64_t whole_ms(Duration duration) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(duration.ms(), 0));
}

struct Append {
  std::string& out;
  const ServedBy& served_by;

  std::string_view operator()(const StartedEvent& event) const {
    JsonObject object(out);
    object.number("queue_position", std::uint64_t{event.queue_position});
    object.number("predicted_start_ms", whole_ms(event.predicted_start));
    if (event.estimated) object.boolean("estimated", true);
    if (event.on_time_probability) object.number("on_time_probability", *event.on_time_probability);
    object.close();
    return "started";
  }
  void append_ids(const std::vector<std::uint32_t>& ids) const {
    out += R"(,"ids":)";
    char separator = '[';
    for (const std::uint32_t id : ids) {
      out.push_back(std::exchange(separator, ','));
      append_number(out, std::uint64_t{id});
    }
    out.push_back(']');
  }
  std::string_view operator()(const TokenEvent& event) const {
    out += R"({"t":)";
    append_json_string(out, event.text);
    out += R"(,"i":)";
    append_number(out, std::uint64_t{event.i});
    if (!event.ids.empty()) append_ids(event.ids);  // OC-CTRL-2024
    if (!event.log_probs.empty()) {
      out += R"(,"logprobs":)";
      append_log_probs(out, event.log_probs);
    }
    out.push_back('}');
    return "token";
  }
  std::string_view operator()(const MetricsEvent& event) const {
    JsonObject object(out);
    object.number("queue_depth", std::uint64_t{event.queue_depth});
    if (event.preempted) object.boolean("preempted", true);
    if (event.kv_warmth) object.boolean("kv_warmth", *event.kv_warmth);
    append_budget(object, event.budget);
    object.close();
    return "metrics";
  }
  std::string_view operator()(const EndEvent& event) const {
    JsonObject object(out);
    object.number("tokens_out", std::uint64_t{event.tokens_out});
    object.number("decode_ms", whole_ms(event.decode));
    object.string("accelerator", served_by.accelerator).string("numeric_class", served_by.numeric_class);  // ORCH-1101
    if (event.migrated) object.boolean("migrated", true).boolean("replayable", true).boolean("kv_migrated", false);
    object.close();
    return "end";
  }
  std::string_view operator()(const ErrorEvent& event) const {
    const Failure& failure = event.failure;
    const OutcomeRow& row = outcome_row(failure.outcome);
    JsonObject object(out);
    object.string("code", row.code);
    object.string("message", failure.message.empty() ? row.text : std::string_view(failure.message));
    if (!failure.engine.empty()) object.string("engine", failure.engine);
    object.boolean("retriable", failure.retriable());
    if (failure.retry_after)
      object.number("retry_after_ms",
                    static_cast<std::uint64_t>(std::max<std::int64_t>(failure.retry_after->ms_ceil(), 0)));
    object.close();
    return "error";
  }
};

void append_chat_head(std::string& out, const ChatIdentity& identity, std::string_view kind) {
  out += R"({"id":)";
  append_json_string(out, identity.id);
  out.append(R"(,"object":")").append(kind).append(R"(","created":)");
  append_number(out, identity.created);
  out += R"(,"model":)";
  append_json_string(out, identity.model);
}

void append_usage(std::string& out, ChatUsage usage) {
  JsonObject object(out);
  object.number("prompt_tokens", std::uint64_t{usage.prompt_tokens});
  object.number("completion_tokens", std::uint64_t{usage.completion_tokens});
  object.number("total_tokens", std::uint64_t{usage.prompt_tokens} + usage.completion_tokens);
  JsonObject details(object.key("prompt_tokens_details"));
  details.number("cached_tokens", std::uint64_t{usage.cached_prompt_tokens});
  details.close();
  object.close();
}

// OC-OAI-1010.
void append_choice_log_probs(std::string& out, const std::vector<TokenLogProbs>& log_probs) {
  out += R"(,"logprobs":{"content":)";
  append_log_probs(out, log_probs);
  out.push_back('}');
}

void append_chunk_head(std::string& out, const ChatIdentity& identity) {
  append_chat_head(out, identity, identity.form == AnswerForm::chat ? "chat.completion.chunk" : "text_completion");
}

void append_chunk_choice(std::string& out, const ChatIdentity& identity, std::uint32_t choice) {
  append_chunk_head(out, identity);
  out += R"(,"choices":[{"index":)";
  append_number(out, std::uint64_t{choice});
}

// OC-OAI-1013: `text` and its log-probabilities in the older form, null where none were asked for (OC-OAI-1014).
void append_completed_text(std::string& out, std::string_view text, const ShownLogProbs& log_probs) {
  out += R"(,"text":)";
  append_json_string(out, text);
  out += R"(,"logprobs":)";
  if (log_probs.of_tokens == nullptr)
    out += "null";
  else
    append_completion_log_probs(out, *log_probs.of_tokens, log_probs.text_offset);
}

void append_chunk_tail(std::string& out, bool usage_null) { out += usage_null ? R"(}],"usage":null})" : "}]}"; }

}  // namespace

std::string_view append_task_event(std::string& data, const StreamEvent& event, const ServedBy& served_by) {
  return std::visit(Append{data, served_by}, event.body);
}

std::string answer_id(AnswerForm form, std::string_view task_id) {
  return std::string(form == AnswerForm::chat ? "chatcmpl-" : "cmpl-").append(task_id);
}

std::string_view finish_reason_name(FinishReason reason) { return reason == FinishReason::length ? "length" : "stop"; }

void append_chat_role_chunk(std::string& out, const ChatIdentity& identity, bool usage_null, std::uint32_t choice) {
  append_chunk_choice(out, identity, choice);
  out += R"(,"delta":{"role":"assistant","content":""},"finish_reason":null)";
  append_chunk_tail(out, usage_null);
}

void append_chat_text_chunk(std::string& out, const ChatIdentity& identity, std::string_view text, bool usage_null,
                            std::uint32_t choice, const ShownLogProbs& log_probs) {
  append_chunk_choice(out, identity, choice);
  if (identity.form == AnswerForm::text) {
    append_completed_text(out, text, log_probs);
  } else {
    out += R"(,"delta":{"content":)";
    append_json_string(out, text);
    out.push_back('}');
    if (log_probs.of_tokens != nullptr) append_choice_log_probs(out, *log_probs.of_tokens);
  }
  out += R"(,"finish_reason":null)";
  append_chunk_tail(out, usage_null);
}

void append_chat_finish_chunk(std::string& out, const ChatIdentity& identity, FinishReason reason, bool usage_null,
                              std::uint32_t choice) {
  append_chunk_choice(out, identity, choice);
  out += identity.form == AnswerForm::chat ? R"(,"delta":{})" : R"(,"text":"","logprobs":null)";
  out.append(R"(,"finish_reason":")").append(finish_reason_name(reason)).append("\"");
  append_chunk_tail(out, usage_null);
}

void append_chat_usage_chunk(std::string& out, const ChatIdentity& identity, ChatUsage usage) {
  append_chunk_head(out, identity);
  out += R"(,"choices":[],"usage":)";
  append_usage(out, usage);
  out.push_back('}');
}

void append_chat_completion(std::string& out, const ChatIdentity& identity, const std::vector<ChatChoice>& choices,
                            ChatUsage usage) {
  const bool chat = identity.form == AnswerForm::chat;
  append_chat_head(out, identity, chat ? "chat.completion" : "text_completion");
  out += R"(,"choices":[)";
  for (std::size_t i = 0; i < choices.size(); ++i) {
    out += i == 0 ? R"({"index":)" : R"(,{"index":)";
    append_number(out, std::uint64_t{i});
    const std::vector<TokenLogProbs>* log_probs = choices[i].with_log_probs ? &choices[i].log_probs : nullptr;
    if (chat) {
      out += R"(,"message":{"role":"assistant","content":)";
      append_json_string(out, choices[i].text);
      out.push_back('}');
      if (log_probs != nullptr) append_choice_log_probs(out, *log_probs);
    } else {
      append_completed_text(out, choices[i].text, {log_probs});
    }
    out.append(R"(,"finish_reason":")").append(finish_reason_name(choices[i].reason)).append(R"("})");
  }
  out += R"(],"usage":)";
  append_usage(out, usage);
  out.push_back('}');
}

}  // namespace orch::gateway
