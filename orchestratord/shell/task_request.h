// Purpose: POST /v1/tasks as a JobSpec (ORCH-2001, ORCH-2006). Pure functions over the body's bytes.
#pragma once

#include <string_view>

#include "common/base/result.h"
#include "orchestratord/core/events.h"
#include "orchestratord/shell/json_fields.h"

namespace orch::gateway {

Result<JobSpec, Failure> parse_task_request(std::string_view body);

// Members that the task and the chat request share; violations go to `fields`.
void read_sampling(JsonFields& fields, Sampling& sampling);
void read_stop(JsonFields& fields, std::vector<std::string>& stop);
// `messages`: 1..kMessagesMax, role and content checked.
void read_messages(JsonFields& fields, Prompt& prompt);
// Fills prompt_bytes and prompt_messages, and takes the payload.
void attach_payload(JobSpec& spec, JobPayload payload);

}  // namespace orch::gateway
