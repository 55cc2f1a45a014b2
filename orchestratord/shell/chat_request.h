// Purpose: POST /v1/chat/completions and /v1/completions as a JobSpec. Pure functions over the body's bytes. Parameters
// of the OpenAI API that are not built are accepted at the value that changes nothing and refused with NOT_IMPLEMENTED
// otherwise.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "orchestratord/core/events.h"
#include "orchestratord/shell/event_text.h"

namespace orch::gateway {

struct ChatRequest {
  AnswerForm form = AnswerForm::chat;
  JobSpec spec;  // attached; `max_tokens` of a chat is 0 when the client gave none
  std::string model;
  bool stream = false;
  bool include_usage = false;
  std::uint32_t choices = 1;  // answers to the one prompt, a job each (OC-OAI-1012)
};

// The job of one choice: the same payload, with other draws. The first one's is `spec` itself.
JobSpec spec_of_choice(const ChatRequest& request, std::uint32_t choice, JobId id);

// `id` becomes the job's; the seed is derived from it when the client gave none (ruling 9).
Result<ChatRequest, Failure> parse_chat_request(std::string_view body, JobId id);
Result<ChatRequest, Failure> parse_completion_request(std::string_view body, JobId id);

}  // namespace orch::gateway
