// Purpose: the fields that shape a draw or ask about it, the same in POST /v1/tasks and /v1/chat/completions:
// penalties, logit bias, log-probabilities. Pure. A violation names the field and the limit (ORCH-2006).
#pragma once

#include "orchestratord/core/job_spec.h"
#include "orchestratord/shell/json_fields.h"

namespace orch::gateway {

void read_shaping(JsonFields& fields, Sampling& sampling);
void read_log_probs(JsonFields& fields, JobPayload& payload);

}  // namespace orch::gateway
