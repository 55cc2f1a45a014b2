// Messages of the Worker service to values and back. Threads: any; nothing is kept.
#pragma once

#include <string>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/result.h"
#include "orch/v1/worker.pb.h"
#include "worker/core/engine_port.h"
#include "worker/shell/token_outbox.h"

namespace orch::worker::wire {

// One parsed dispatch. The fence's message is kept to be echoed as it came.
struct Dispatch {
  Fence fence;
  Holder holder;
  GenerationRequest request;
};

// The error names the field and the limit.
Result<Dispatch, EngineFailure> parse_dispatch(const v1::GenerateRequest& message);
Result<EnginePrompt, EngineFailure> parse_prompt(const v1::Prompt& message);
// One parsed request for scores; what is scored is checked by the engine.
struct ScoreDispatch {
  Fence fence;
  Holder holder;
  ScoreRequest request;
};
Result<ScoreDispatch, EngineFailure> parse_score(const v1::ScoreRequest& message);
void write_scores(const ScoreResult& result, v1::ScoreReply* out);
Result<LeaseTable, EngineFailure> parse_table(const v1::LeaseTable& message);
void write_table(const LeaseTable& table, v1::LeaseTable* out);
Result<Holder, EngineFailure> parse_holder(const v1::Holder& message);

void write_failure(const EngineFailure& failure, v1::Failure* out);
void write_item(const TokenOutbox::Item& item, v1::GenerateEvent* out);
void write_info(const EngineInfo& info, v1::WorkerInfo* out);
void write_counters(const EngineCounters& counters, v1::ControlReport* out);

}  // namespace orch::worker::wire
