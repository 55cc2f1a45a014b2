// What a job's stream consists of, and what ends it. Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/time.h"
#include "common/base/token_scores.h"
#include "gen/outcome.h"
#include "orchestratord/core/budget.h"

namespace orch::gateway {

// A refusal or a terminal error as a client sees it.
struct Failure {
  Outcome outcome = Outcome::INTERNAL;
  std::string message;
  std::string field;  // path of the offending input; empty when not applicable
  std::optional<Duration> retry_after;
  std::string policy_label;  // reject | drop-lru | shed-low-priority, on 429 only
  std::string engine;        // when known
  std::string pool_id;       // when known
  bool poisoned = false;     // the request itself is at fault (M6): not retriable, whatever its outcome says

  bool retriable() const { return outcome_row(outcome).retriable && !poisoned; }
};

enum class FinishReason : std::uint8_t { stop, length };

struct StartedEvent {
  std::uint32_t queue_position = 0;
  Duration predicted_start;
  bool estimated = false;                                    // by class defaults: nothing was measured yet
  std::optional<double> on_time_probability = std::nullopt;  // with a deadline only
};
struct TokenEvent {
  std::uint32_t i = 0;             // counts token events from 0
  std::vector<std::uint32_t> ids;  // token ids this event stands for (one or more; none from id-less engines)
  std::string text;
  std::vector<TokenLogProbs> log_probs = {};  // per id, when asked for
};
struct MetricsEvent {
  std::uint32_t queue_depth = 0;
  bool preempted = false;              // its slot was given to an interactive job; it waits again
  BudgetLeft budget = {};              // at a dispatch
  std::optional<bool> kv_warmth = {};  // at a dispatch of a session's job (ORCH-3009); nullopt: not known
};
struct EndEvent {
  FinishReason reason = FinishReason::stop;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t tokens_out = 0;
  bool estimated = false;
  Duration decode;
  std::uint32_t cached_prompt_tokens = 0;  // of prompt_tokens, not computed: the replica knew the prefix
  // M3: another replica went on behind shown tokens; of the same numeric class, so the whole can be computed again. KV
  // is never moved.
  bool migrated = false;
};
struct ErrorEvent {
  Failure failure;
};
// `id` numbers started, token and the terminal, from 1; metrics carry 0 (J2).
struct StreamEvent {
  std::uint64_t id = 0;
  std::variant<StartedEvent, TokenEvent, MetricsEvent, EndEvent, ErrorEvent> body;
};

// Facts about the replica that serves the job, for reply headers and the OpenAI fields; sent once per dispatch start.
struct ServedBy {
  std::string model_name;
  std::string model_digest;
  std::string engine;
  std::string engine_version;
  std::string numeric_class;
  std::string accelerator;
  std::string replica_id;
};

}  // namespace orch::gateway
