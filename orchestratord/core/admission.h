// The checks of admission that need no queue: model lifecycle (POOL-ADMIT), device and determinism demands, context
// (ORCH-3014, ORCH-3015, ruling 13). Pure functions; a refusal names the field and the limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "orchestratord/core/fleet.h"
#include "orchestratord/core/limits.h"

namespace orch::gateway {

// Upper bound of the rendered prompt's tokens on this replica, template included; nullopt: the engine declares none.
std::optional<std::uint64_t> prompt_tokens_bound(const JobSpec& spec, const ReplicaView& replica);

enum class Context : std::uint8_t { fits, overflows, must_count };
struct ContextCheck {
  Context verdict = Context::fits;
  std::uint64_t tokens_bound = 0;  // prompt and completion, when it fits by a bound; 0: not known
};
// Against the largest context among the lane's replicas; `primary` gives the template's bounds.
ContextCheck check_context(const JobSpec& spec, const ReplicaView& primary, std::uint32_t ctx_max);

// `prompt_tokens` nullopt: max_tokens alone exceeds the context.
Failure context_overflow(const JobSpec& spec, std::optional<std::uint64_t> prompt_tokens, std::uint32_t ctx_max);

struct LaneOrFailure {
  std::optional<Lane> lane;
  ModelStatus status;
  Failure failure;  // when lane is nullopt
};
// Is there such a model, and may what is asked of its replicas be so? `version`: the digest that the life cycle has
// chosen for a request by name; empty: any.
LaneOrFailure check_model(const JobSpec& spec, const std::string& version, const Fleet& fleet, const Limits& limits);

// Behind every check of the request itself (OC-ADMIT-1002): can its pool serve it now, or again soon?
std::optional<Failure> check_pool(const Lane& lane, const Fleet& fleet, const Limits& limits);

// What a waiting job is told when its model can serve nobody: nullopt while there is hope.
std::optional<Failure> hopeless(const Lane& lane, const Fleet& fleet, const Limits& limits);
Failure failure_of_standing(const Lane& lane, const ModelStatus& status, const Fleet& fleet, const Limits& limits);

}  // namespace orch::gateway
