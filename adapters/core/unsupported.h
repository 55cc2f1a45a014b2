// What a request asks for and an engine behind an adapter cannot give: refused by its field, never dropped silently
// (OC-ADAPT-5084). Pure.
#pragma once

#include <optional>
#include <string>

#include "worker/core/engine_port.h"

namespace orch::adapter {

inline worker::EngineFailure unsupported(const std::string& engine, const std::string& field) {
  return {.outcome = Outcome::INVALID_PARAMS,
          .message = field + ": not given by replicas of engine " + engine,
          .field = field};
}

// Log-probabilities need the engine's token ids, which are not relied on.
inline std::optional<worker::EngineFailure> refuse_scores(const worker::GenerationRequest& request,
                                                          const std::string& engine) {
  if (request.log_probs) return unsupported(engine, "logprobs");
  if (request.prompt_log_probs) return unsupported(engine, "prompt_logprobs");
  return std::nullopt;
}

// OC-GRAMMAR-1034: an engine that cannot obey a constraint says so.
inline std::optional<worker::EngineFailure> refuse_constraint(const worker::GenerationRequest& request,
                                                              const std::string& engine) {
  if (!request.constraint) return std::nullopt;
  return unsupported(engine, "constraint");
}

inline std::optional<worker::EngineFailure> refuse_shaping(const worker::GenerationRequest& request,
                                                           const std::string& engine) {
  if (auto refusal = refuse_constraint(request, engine)) return refusal;
  if (request.frequency_penalty != 0) return unsupported(engine, "frequency_penalty");
  if (request.presence_penalty != 0) return unsupported(engine, "presence_penalty");
  if (request.repetition_penalty != 1.0F) return unsupported(engine, "repetition_penalty");
  if (!request.logit_bias.empty()) return unsupported(engine, "logit_bias");
  return std::nullopt;
}

}  // namespace orch::adapter
