// Purpose: a gRPC SubmitRequest as a JobSpec, by the rules and limits of POST /v1/tasks (ORCH-2006). Pure.
#pragma once

#include "common/base/result.h"
#include "orch/v1/orchestrator.pb.h"
#include "orchestratord/core/effects.h"
#include "orchestratord/core/events.h"

namespace orch::gateway {

Result<JobSpec, Failure> read_submit_request(const v1::SubmitRequest& message);

void write_budget(const BudgetLeft& left, v1::BudgetLeft& out);

// One event of a stream as its message.
// `served_by`: by which replica, as far as it is known.
v1::TaskEvent write_task_event(const StreamEvent& event, const ServedBy& served_by);

}  // namespace orch::gateway
