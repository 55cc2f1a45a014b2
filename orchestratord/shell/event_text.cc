#include "orchestratord/shell/event_text.h"

#include <algorithm>
#include <utility>

#include "common/runtime/json_text.h"
#include "orchestratord/shell/budget_text.h"

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
    out.push_back('}');
    return "token";
  }
  std::string_view operator()(const MetricsEvent& event) const {
    JsonObject object(out);
    object.number("queue_depth", std::uint64_t{event.queue_depth});
    if (event.preempted) object.boolean("preempted", true);
    append_budget(object, event.budget);
    object.close();
    return "metrics";
  }
  std::string_view operator()(const EndEvent& event) const {
    JsonObject object(out);
    object.number("tokens_out", std::uint64_t{event.tokens_out});
    object.number("decode_ms", whole_ms(event.decode));
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
    object.boolean("retriable", row.retriable);
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
  object.close();
}

constexpr std::string_view kChunk = "chat.completion.chunk";

void append_chunk_tail(std::string& out, bool usage_null) { out += usage_null ? R"(}],"usage":null})" : "}]}"; }

}  // namespace

std::string_view append_task_event(std::string& data, const StreamEvent& event) {
  return std::visit(Append{data}, event.body);
}

std::string_view finish_reason_name(FinishReason reason) { return reason == FinishReason::length ? "length" : "stop"; }

void append_chat_role_chunk(std::string& out, const ChatIdentity& identity, bool usage_null) {
  append_chat_head(out, identity, kChunk);
  out += R"(,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null)";
  append_chunk_tail(out, usage_null);
}

void append_chat_text_chunk(std::string& out, const ChatIdentity& identity, std::string_view text, bool usage_null) {
  append_chat_head(out, identity, kChunk);
  out += R"(,"choices":[{"index":0,"delta":{"content":)";
  append_json_string(out, text);
  out += R"(},"finish_reason":null)";
  append_chunk_tail(out, usage_null);
}

void append_chat_finish_chunk(std::string& out, const ChatIdentity& identity, FinishReason reason, bool usage_null) {
  append_chat_head(out, identity, kChunk);
  out.append(R"(,"choices":[{"index":0,"delta":{},"finish_reason":")").append(finish_reason_name(reason)).append("\"");
  append_chunk_tail(out, usage_null);
}

void append_chat_usage_chunk(std::string& out, const ChatIdentity& identity, ChatUsage usage) {
  append_chat_head(out, identity, kChunk);
  out += R"(,"choices":[],"usage":)";
  append_usage(out, usage);
  out.push_back('}');
}

void append_chat_completion(std::string& out, const ChatIdentity& identity, std::string_view text, FinishReason reason,
                            ChatUsage usage) {
  append_chat_head(out, identity, "chat.completion");
  out += R"(,"choices":[{"index":0,"message":{"role":"assistant","content":)";
  append_json_string(out, text);
  out.append(R"(},"finish_reason":")").append(finish_reason_name(reason)).append(R"("}],"usage":)");
  append_usage(out, usage);
  out.push_back('}');
}

}  // namespace orch::gateway
