// Messages of the Worker service to values and back. Threads: any; nothing is kept.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "common/base/ids.h"
#include "common/base/lease_table.h"
#include "common/base/result.h"
#include "orch/v1/worker.pb.h"
#include "worker/core/engine_port.h"
#include "worker/shell/token_outbox.h"

namespace orch::worker::wire {

// One parsed dispatch. What is asked for is checked by the engine.
template <typename Request>
struct Dispatched {
  Fence fence;
  Holder holder{};  // of a call of its own; a stream names its holder once
  Request request;
  std::uint32_t lease_slots = std::numeric_limits<std::uint32_t>::max();  // as its holder knows it
};

// The error names the field and the limit.
Result<Dispatched<GenerationRequest>, EngineFailure> parse_dispatch(const v1::Dispatch& message);
Result<Dispatched<ScoreRequest>, EngineFailure> parse_score(const v1::ScoreRequest& message);
Result<Dispatched<EmbedRequest>, EngineFailure> parse_embed(const v1::EmbedRequest& message);
Result<EnginePrompt, EngineFailure> parse_prompt(const v1::Prompt& message);
void write_answer(const ScoreResult& result, v1::ScoreReply* out);
void write_answer(const EmbedResult& result, v1::EmbedReply* out);
Result<LeaseTable, EngineFailure> parse_table(const v1::LeaseTable& message);
void write_table(const LeaseTable& table, v1::LeaseTable* out);
Result<Holder, EngineFailure> parse_holder(const v1::Holder& message);

void write_failure(const EngineFailure& failure, v1::Failure* out);
void write_item(TokenOutbox::Item&& item, v1::JobEvent* out);
void write_info(const EngineInfo& info, v1::WorkerInfo* out);
void write_counters(const EngineCounters& counters, v1::ControlReport* out);

}  // namespace orch::worker::wire
