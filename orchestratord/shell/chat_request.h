// Purpose: POST /v1/chat/completions as a JobSpec. Pure functions over the body's bytes. Parameters of the OpenAI API
// that are not built are accepted at the value that changes nothing and refused with NOT_IMPLEMENTED otherwise.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "orchestratord/core/events.h"

namespace orch::gateway {

struct ChatRequest {
  JobSpec spec;  // attached; `max_tokens` is 0 when the client gave none
  std::string model;
  bool stream = false;
  bool include_usage = false;
  std::uint32_t choices = 1;  // answers to the one prompt, a job each (OC-OAI-1012)
};

// The job of one choice: the same payload, with other draws. The first one's is `spec` itself.
JobSpec spec_of_choice(const ChatRequest& request, std::uint32_t choice, JobId id);

// `id` becomes the job's; the seed is derived from it when the client gave none (ruling 9).
Result<ChatRequest, Failure> parse_chat_request(std::string_view body, JobId id);

}  // namespace orch::gateway
