// Purpose: stream events as the bytes a client sees: OrchQueue SSE data (ORCH-2002) and OpenAI chat objects. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "orchestratord/core/effects.h"

namespace orch::gateway {

// Name of the SSE event; `data` gets its JSON. `served_by`: by which replica, as far as it is known.
std::string_view append_task_event(std::string& data, const StreamEvent& event, const ServedBy& served_by);

// What all objects of one chat answer repeat.
struct ChatIdentity {
  std::string id;  // chatcmpl-<task id>
  std::string model;
  std::int64_t created = 0;     // Unix seconds
  bool with_log_probs = false;  // they were asked for
};

struct ChatUsage {
  std::uint32_t prompt_tokens = 0;
  std::uint32_t completion_tokens = 0;
  std::uint32_t cached_prompt_tokens = 0;  // of the prompt's
};

// One of the answers to a request.
struct ChatChoice {
  std::string text;
  FinishReason reason = FinishReason::stop;
  bool with_log_probs = false;
  std::vector<TokenLogProbs> log_probs = {};
};

std::string_view finish_reason_name(FinishReason reason);

// {"id":...,"choices":[{"index":0,"delta":{...},"finish_reason":null}]}; `usage_null` as with include_usage; `choice`:
// which of several answers. `log_probs`: null when none were asked for.
void append_chat_role_chunk(std::string& out, const ChatIdentity& identity, bool usage_null, std::uint32_t choice = 0);
void append_chat_text_chunk(std::string& out, const ChatIdentity& identity, std::string_view text, bool usage_null,
                            std::uint32_t choice = 0, const std::vector<TokenLogProbs>* log_probs = nullptr);
void append_chat_finish_chunk(std::string& out, const ChatIdentity& identity, FinishReason reason, bool usage_null,
                              std::uint32_t choice = 0);
void append_chat_usage_chunk(std::string& out, const ChatIdentity& identity, ChatUsage usage);
// The whole answer of a request without stream.
void append_chat_completion(std::string& out, const ChatIdentity& identity, const std::vector<ChatChoice>& choices,
                            ChatUsage usage);

}  // namespace orch::gateway
