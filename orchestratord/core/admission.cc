#include "orchestratord/core/admission.h"

#include <algorithm>
#include <cmath>

namespace orch::gateway {
namespace {

void label(Failure& failure, const ModelStatus& status, const Fleet& fleet) {
  if (!status.primary) return;
  const ReplicaView* replica = fleet.find(*status.primary);
  if (replica == nullptr) return;
  failure.engine = replica->engine;
  failure.pool_id = replica->pool_id;
}

const ReplicaView* primary_of(const ModelStatus& status, const Fleet& fleet) {
  return status.primary ? fleet.find(*status.primary) : nullptr;
}

// A replica that has not loaded yet does not tell its device or numeric class.
bool undeclared(const ReplicaView& replica) { return replica.accelerator.empty(); }

// OC-CORE-1015: the first part of a wish that no known replica of the model satisfies.
std::optional<Failure> impossible_wish(const Lane& model, const PlacementWish& wish, const Fleet& fleet) {
  const auto impossible = [&](const PlacementWish& part, const char* field, const std::string& what) {
    Lane lane = model;
    lane.wish = part;
    std::optional<Failure> failure;
    if (part.empty() || fleet.status(lane).standing != Standing::unknown) return failure;
    failure.emplace();
    failure->outcome = Outcome::INVALID_PARAMS;
    failure->message = what + " of '" + model.model + "'";
    failure->field = field;
    return failure;
  };
  if (auto failure = impossible({.pin = wish.pin}, "placement.pin", "'" + wish.pin + "' names no pool or replica"))
    return failure;
  if (auto failure =
          impossible({.devices = wish.devices}, "placement.devices", "no device of the list serves a replica"))
    return failure;
  if (!wish.allow_fallback) {
    if (auto failure = impossible({.prefer = wish.prefer, .allow_fallback = false}, "placement.prefer",
                                  "no preferred pool or replica is one"))
      return failure;
  }
  if (auto failure = impossible({.avoid = wish.avoid}, "placement.avoid", "the list names every replica"))
    return failure;
  return impossible(wish, "placement", "the wishes together fit no replica");
}

}  // namespace

std::optional<std::uint64_t> prompt_tokens_bound(const JobSpec& spec, const ReplicaView& replica) {
  if (!(replica.token_bytes_expansion > 0)) return std::nullopt;
  const std::uint64_t per_message = std::uint64_t{spec.prompt_messages} * replica.template_per_message_bytes;
  const double rendered =
      static_cast<double>(spec.prompt_bytes) + static_cast<double>(per_message) + replica.template_fixed_bytes;
  const double bound = std::ceil(rendered * static_cast<double>(replica.token_bytes_expansion));
  if (bound > 1e15) return std::nullopt;
  return static_cast<std::uint64_t>(bound);
}

ContextCheck check_context(const JobSpec& spec, const ReplicaView& primary, std::uint32_t ctx_max) {
  if (ctx_max == 0) return {Context::must_count, 0};               // its only replica has not said yet, or restarts
  if (spec.max_tokens >= ctx_max) return {Context::overflows, 0};  // a prompt has at least one token
  const std::optional<std::uint64_t> bound = prompt_tokens_bound(spec, primary);
  if (!bound) return {Context::must_count, 0};
  const std::uint64_t needed = *bound + spec.max_tokens;
  if (needed <= ctx_max) return {Context::fits, needed};
  return {Context::must_count, 0};
}

Failure context_overflow(const JobSpec& spec, std::optional<std::uint64_t> prompt_tokens, std::uint32_t ctx_max) {
  Failure failure;
  failure.outcome = Outcome::CONTEXT_OVERFLOW;
  const std::string limit = "the context of " + std::to_string(ctx_max) + " tokens";
  if (prompt_tokens) {
    failure.message = "prompt (" + std::to_string(*prompt_tokens) + " tokens) and max_tokens (" +
                      std::to_string(spec.max_tokens) + ") together exceed " + limit;
    failure.field = *prompt_tokens >= ctx_max ? "prompt" : "max_tokens";
  } else {
    failure.message = "max_tokens (" + std::to_string(spec.max_tokens) + ") leaves no room for a prompt in " + limit;
    failure.field = "max_tokens";
  }
  return failure;
}

Failure failure_of_standing(const Lane& lane, const ModelStatus& status, const Fleet& fleet, const Limits& limits) {
  Failure failure;
  label(failure, status, fleet);
  const ReplicaView* primary = primary_of(status, fleet);
  switch (status.standing) {
    case Standing::unknown:
      failure.outcome = Outcome::MODEL_NOT_FOUND;
      failure.message = "no pool serves the model '" + lane.model + "'";
      failure.field = "model_ref";
      return failure;
    case Standing::unavailable:
      failure.outcome = Outcome::POOL_UNAVAILABLE;
      failure.message = "no attached pool manager serves '" + lane.model + "'";
      failure.retry_after = limits.load_default;
      return failure;
    case Standing::unready:
    case Standing::returning:
      failure.outcome = Outcome::POOL_UNREADY;
      failure.message = "no replica of '" + lane.model + "' is ready";
      if (primary != nullptr && !primary->last_error.empty()) failure.message += ": " + primary->last_error;
      failure.retry_after = status.retry_in.value_or(Duration{}) + limits.load_default;
      return failure;
    case Standing::ready:
      failure.outcome = Outcome::REPLICA_EXHAUSTED;
      failure.message = "no replica of '" + lane.model + "' had a free slot in time";
      return failure;
  }
  return failure;
}

LaneOrFailure check_model(const JobSpec& spec, const std::string& version, const Fleet& fleet, const Limits& limits) {
  LaneOrFailure out;
  std::optional<Lane> any = fleet.resolve(spec.model_ref);
  if (!any) {
    out.failure = failure_of_standing({spec.model_ref, {}, false, false}, {}, fleet, limits);
    return out;
  }
  if (!version.empty()) any->digest = version;
  const ModelStatus plain = fleet.status(*any);
  Lane lane = *any;
  lane.require_gpu = spec.require_gpu;
  lane.strict = spec.determinism == Determinism::strict;
  lane.wish = spec.wish;
  out.status = fleet.status(lane);
  if (plain.standing == Standing::unknown) {  // no replica of that digest
    out.failure = failure_of_standing(lane, plain, fleet, limits);
    return out;
  }
  // The demands are judged only against replicas that have told what they are.
  const bool undeclared_left = fleet.any_attached(*any, undeclared);
  if (out.status.standing == Standing::unknown && plain.standing >= Standing::unready && !undeclared_left) {
    label(out.failure, plain, fleet);
    Lane gpu = *any;
    gpu.require_gpu = true;
    if (lane.require_gpu && fleet.status(gpu).standing == Standing::unknown) {
      out.failure.outcome = Outcome::POOL_UNAVAILABLE;
      out.failure.message =
          "require_gpu is set and no GPU replica serves '" + lane.model + "'";  // ORCH-3018, ruling 10
      out.failure.field = "require_gpu";
      out.failure.retry_after = limits.load_default;
    } else if (std::optional<Failure> failure = impossible_wish(*any, spec.wish, fleet)) {
      failure->engine = out.failure.engine;
      failure->pool_id = out.failure.pool_id;
      out.failure = std::move(*failure);
    } else {
      out.failure.outcome = Outcome::INVALID_PARAMS;
      out.failure.message = "determinism 'strict' needs a replica with a numeric class and no fitting one of '" +
                            lane.model + "' has any";
      out.failure.field = "determinism";
    }
    return out;
  }
  if (out.status.standing == Standing::unknown) out.status = plain;
  out.lane = lane;
  return out;
}

std::optional<Failure> check_pool(const Lane& lane, const Fleet& fleet, const Limits& limits) {
  ModelStatus status = fleet.status(lane);
  if (status.standing >= Standing::returning) return std::nullopt;
  if (status.standing == Standing::unknown) {  // others may fit, once they have loaded
    status = fleet.status({lane.model, lane.digest, false, false});
    status.standing = std::min(status.standing, Standing::unready);
  }
  return failure_of_standing(lane, status, fleet, limits);
}

std::optional<Failure> hopeless(const Lane& lane, const Fleet& fleet, const Limits& limits) {
  const ModelStatus status = fleet.status(lane);
  if (status.standing >= Standing::returning || status.standing == Standing::unavailable) return std::nullopt;
  Lane model = lane;
  model.require_gpu = false;
  model.strict = false;
  model.digest.clear();
  model.exact.clear();
  const bool continues = !lane.exact.empty();
  const bool coming = fleet.any_attached(model, [&](const ReplicaView& replica) {
    // A loaded replica that is not of the set a job continues on never will be.
    if (continues && replica.state == ReplicaState::ready) return false;
    return replica.state != ReplicaState::failed && replica.state != ReplicaState::stopped;
  });
  if (coming) return std::nullopt;
  ModelStatus told = status;
  if (told.standing == Standing::unknown)
    told.standing = Standing::unavailable;  // it was known when the job was admitted
  return failure_of_standing(lane, told, fleet, limits);
}

}  // namespace orch::gateway
