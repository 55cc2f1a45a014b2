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

// Whose answer it is: of /v1/chat/completions or of /v1/completions (OC-OAI-1013).
enum class AnswerForm : std::uint8_t { chat, text };

// chatcmpl-<task id>, cmpl-<task id>
std::string answer_id(AnswerForm form, std::string_view task_id);

// What all objects of one answer repeat.
struct ChatIdentity {
  std::string id;  // answer_id
  std::string model;
  std::int64_t created = 0;     // Unix seconds
  bool with_log_probs = false;  // they were asked for
  AnswerForm form = AnswerForm::chat;
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

// The log-probabilities of a chunk: null when none were asked for; `text_offset`: characters of the choice before it.
struct ShownLogProbs {
  const std::vector<TokenLogProbs>* of_tokens = nullptr;
  std::uint64_t text_offset = 0;
};

// {"id":...,"choices":[{"index":0,"delta":{...},"finish_reason":null}]}, with `text` in place of `delta` in a text's
// answer; `usage_null` as with include_usage; `choice`: which of several answers. A text's answer has no role chunk.
void append_chat_role_chunk(std::string& out, const ChatIdentity& identity, bool usage_null, std::uint32_t choice = 0);
void append_chat_text_chunk(std::string& out, const ChatIdentity& identity, std::string_view text, bool usage_null,
                            std::uint32_t choice = 0, const ShownLogProbs& log_probs = {});
void append_chat_finish_chunk(std::string& out, const ChatIdentity& identity, FinishReason reason, bool usage_null,
                              std::uint32_t choice = 0);
void append_chat_usage_chunk(std::string& out, const ChatIdentity& identity, ChatUsage usage);
// The whole answer of a request without stream.
void append_chat_completion(std::string& out, const ChatIdentity& identity, const std::vector<ChatChoice>& choices,
                            ChatUsage usage);

}  // namespace orch::gateway
