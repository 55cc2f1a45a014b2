// Operations of the manager (OC-POOL-3050 to 3054). Every change of a replica's state is followed by advance(), so an
// operation waits for nothing but states that the replica reaches by itself within the limits of HealthPolicy.
#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "pool-managerd/core/manager.h"

namespace orch::pool {
namespace {

bool replaces(OperationKind kind) { return kind == OperationKind::reload || kind == OperationKind::restart; }

std::string name_of(const Operation& operation) {
  return std::string(to_string(operation.kind)) + " of " +
         (operation.replica_id.empty() ? operation.pool_id : operation.replica_id);
}

}  // namespace

void Manager::refuse(const StartOperation& event, Outcome outcome, std::string message, std::string field,
                     Effects& out) {
  out.push_back(OperationReply{.request = event.request,
                               .operation = std::nullopt,
                               .outcome = outcome,
                               .message = std::move(message),
                               .field = std::move(field)});
}

std::vector<std::string> Manager::replicas_of(const std::string& pool_id, const std::string& replica_id) const {
  std::vector<std::string> out;
  for (const auto& [id, replica] : replicas_) {
    if (replica_id.empty() ? replica->spec().pool_id == pool_id : id == replica_id) out.push_back(id);
  }
  return out;
}

// OC-POOL-3050: the open operations that touch one of the same replicas.
std::vector<OpenOperation*> Manager::in_the_way(const StartOperation& event, const std::string& pool_id) {
  std::vector<OpenOperation*> out;
  for (auto& [id, open] : open_operations_) {
    if (open.view.pool_id != pool_id) continue;
    const bool apart =
        !event.replica_id.empty() && !open.view.replica_id.empty() && open.view.replica_id != event.replica_id;
    if (!apart) out.push_back(&open);
  }
  return out;
}

void Manager::on(const StartOperation& event, Instant now, Effects& out) {
  const std::vector<std::string> targets = replicas_of(event.pool_id, event.replica_id);
  if (targets.empty()) {
    const bool of_pool = event.replica_id.empty();
    return refuse(event, Outcome::NOT_FOUND,
                  of_pool ? "pool_id: no pool '" + event.pool_id + "' on this host"
                          : "replica_id: no replica '" + event.replica_id + "' on this host",
                  of_pool ? "pool_id" : "replica_id", out);
  }
  if (shutting_down_) return refuse(event, Outcome::CONFLICT, "the manager stops", {}, out);
  const ReplicaSpec& spec = replicas_.at(targets.front())->spec();
  const std::string pool_id = spec.pool_id;
  if (replaces(event.kind) && !event.replica_id.empty())
    return refuse(event, Outcome::INVALID_PARAMS, "replica_id: a whole pool is replaced, or nothing", "replica_id",
                  out);
  if (event.model.has_value() != (event.kind == OperationKind::reload))
    return refuse(event, Outcome::INVALID_PARAMS, "model: for a reload, and only for one", "model", out);
  if (event.model && spec.model_path.empty())
    return refuse(event, Outcome::INVALID_PARAMS, "model: engine '" + spec.engine + "' has its own", "model", out);
  const std::vector<OpenOperation*> others = in_the_way(event, pool_id);
  for (const OpenOperation* other : others) {  // all of them before any is ended: a refusal changes nothing
    const bool same = other->view.kind == event.kind && other->view.replica_id == event.replica_id;
    if (same && !replaces(event.kind)) {
      if (event.kind == OperationKind::drain) {
        for (const std::string& id : targets) replicas_.at(id)->drain(event.deadline, DrainReason::request, now, out);
      }
      out.push_back(OperationReply{.request = event.request, .operation = other->view, .message = {}, .field = {}});
      return;
    }
    if (replaces(event.kind) || replaces(other->view.kind) || other->view.kind == event.kind)
      return refuse(event, Outcome::CONFLICT, name_of(other->view) + " is under way", {}, out);
  }
  for (OpenOperation* other : others) {
    finish(*other, "superseded by a " + std::string(to_string(event.kind)), now, out);
    const OperationId superseded = other->view.id;
    open_operations_.erase(superseded);
  }
  if (replaces(event.kind)) {
    const std::string why = not_replaceable(event.kind, targets);
    if (!why.empty()) return refuse(event, Outcome::CONFLICT, why, {}, out);
  }
  OpenOperation open;
  open.view.id = {.boot = settings_.boot, .counter = ++last_operation_};
  open.view.kind = event.kind;
  open.view.pool_id = pool_id;
  open.view.replica_id = event.replica_id;
  open.view.deadline = event.deadline;
  open.view.model = event.model;
  open.view.begun = now;
  open.view.total = static_cast<std::uint32_t>(targets.size());
  open.targets = targets;
  OpenOperation& operation = open_operations_.emplace(open.view.id, std::move(open)).first->second;
  begin(operation, now, out);
  out.push_back(OperationReply{.request = event.request, .operation = operation.view, .message = {}, .field = {}});
}

// OC-POOL-3056: a whole pool that is drained is reloaded too. Of one replica among others it would not be clear whether
// it is to serve again.
std::string Manager::not_replaceable(OperationKind kind, const std::vector<std::string>& targets) const {
  const Replica* drained = nullptr;
  std::size_t wanted = 0;
  for (const std::string& id : targets) {
    const Replica& replica = *replicas_.at(id);
    if (replica.is_wanted()) {
      ++wanted;
    } else if (drained == nullptr || !replica.is_drained()) {
      drained = &replica;
    }
  }
  if (drained == nullptr) return {};
  const std::string& id = drained->spec().replica_id;
  if (kind == OperationKind::restart) return id + " is drained: an undrain starts it";
  if (!drained->is_drained()) return id + " still drains";
  return wanted == 0 ? std::string() : id + " is drained and others are not: drain the pool first, or undrain it";
}

void Manager::begin(OpenOperation& operation, Instant now, Effects& out) {
  if (replaces(operation.view.kind)) return begin_rollout(operation);
  for (const std::string& id : operation.targets) {
    Replica& replica = *replicas_.at(id);
    operation.failures_before[id] = replica.failures();
    if (operation.view.kind == OperationKind::drain) {
      replica.drain(operation.view.deadline, DrainReason::request, now, out);
    } else {
      replica.undrain(now);
    }
  }
}

// A reload to what a replica serves already changes nothing; one that serves nothing is brought back by it.
void Manager::begin_rollout(OpenOperation& operation) {
  Rollout rollout;
  rollout.of_drained = std::none_of(operation.targets.begin(), operation.targets.end(),
                                    [&](const std::string& id) { return replicas_.at(id)->is_wanted(); });
  for (const std::string& id : operation.targets) {
    const ReplicaSpec& spec = replicas_.at(id)->spec();
    const ModelFile is{.path = spec.model_path, .digest = spec.model_digest};
    if (!rollout.of_drained && operation.view.model == is) continue;
    rollout.before.push_back(spec);
    rollout.todo.push_back({.replica_id = id, .to = operation.view.model.value_or(is)});
  }
  operation.view.total = static_cast<std::uint32_t>(rollout.todo.size());
  operation.rollout = std::move(rollout);
}

// True when anything has changed: the replicas are settled again then.
bool Manager::advance_operations(Instant now, Effects& out) {
  if (shutting_down_) return false;  // they have ended as they were
  bool changed = false;
  for (auto& [id, open] : open_operations_) changed = advance(open, now, out) || changed;
  std::erase_if(open_operations_, [](const auto& entry) { return entry.second.view.state != OperationState::running; });
  return changed;
}

bool Manager::advance(OpenOperation& operation, Instant now, Effects& out) {
  if (operation.rollout) return advance_rollout(operation, now, out);
  const bool drains = operation.view.kind == OperationKind::drain;
  operation.view.done = 0;
  operation.view.jobs_cut = 0;
  for (const std::string& id : operation.targets) {
    const Replica& replica = *replicas_.at(id);
    // What befalls the life that ends is no failure of the one that begins.
    if (replica.state() == ReplicaState::draining) operation.failures_before[id] = replica.failures();
    if (!drains && replica.failures() > operation.failures_before.at(id)) {
      finish(operation, id + ": " + replica.last_error(), now, out);
      return true;
    }
    operation.view.jobs_cut += drains ? replica.jobs_cut() : 0;
    if (drains ? replica.is_drained() : replica.state() == ReplicaState::ready) {
      ++operation.view.done;
    } else {
      operation.view.step = id + (drains ? " drains" : " is to become ready");
    }
  }
  if (operation.view.done < operation.targets.size()) return false;
  finish(operation, {}, now, out);
  return true;
}

bool Manager::advance_rollout(OpenOperation& operation, Instant now, Effects& out) {
  Rollout& rollout = *operation.rollout;
  if (rollout.old_id.empty()) return next_replacement(operation, now, out);
  Replica& successor = *replicas_.at(rollout.new_id);
  if (rollout.giving_up) {
    if (!successor.is_drained()) return false;
    successor_removed(operation, now, out);
    return true;
  }
  Replica& old = *replicas_.at(rollout.old_id);
  if (!rollout.successor_served) {
    if (!rollout.to_drained && successor.failures() > 0) {
      give_up_successor(operation, now, out);
      return true;
    }
    if (!rollout.to_drained && successor.state() != ReplicaState::ready) return false;
    rollout.successor_served = true;
    old.drain(operation.view.deadline, DrainReason::rollout, now, out);
    operation.view.step = rollout.old_id + " drains" + (rollout.to_drained ? "" : ", " + rollout.new_id + " serves");
    return true;
  }
  if (!old.is_drained()) return false;
  operation.view.jobs_cut += old.jobs_cut();
  const ModelFile was{.path = old.spec().model_path, .digest = old.spec().model_digest};
  rollout.undo.push_front({.replica_id = rollout.new_id, .to = was, .drained = rollout.of_drained});
  remove_replica(rollout.old_id, now, out);
  rollout.old_id.clear();
  rollout.successor_served = false;
  if (!rollout.back) ++operation.view.done;
  return true;
}

// OC-POOL-3052: the successor is started beside the old one.
bool Manager::next_replacement(OpenOperation& operation, Instant now, Effects& out) {
  Rollout& rollout = *operation.rollout;
  if (rollout.todo.empty()) {
    finish(operation, operation.view.error, now, out);
    return true;
  }
  const Rollout::Change change = rollout.todo.front();
  rollout.todo.pop_front();
  ReplicaSpec spec = replicas_.at(change.replica_id)->spec();
  ++spec.generation;
  spec.replica_id = replica_id_of(spec.place, spec.generation);
  spec.model_path = change.to.path;
  spec.model_digest = change.to.digest;
  rollout.old_id = change.replica_id;
  rollout.new_id = spec.replica_id;
  rollout.to_drained = change.drained;
  auto successor = std::make_unique<Replica>(spec, settings_, serials_, sets_, entropy_);
  if (change.drained)
    successor->drain(Duration{}, DrainReason::rollout, now, out);  // before it has begun: it never does
  const bool is_new = replicas_.emplace(rollout.new_id, std::move(successor)).second;
  ORCH_CHECK(is_new);
  operation.view.step = rollout.new_id + " is to become ready";
  return true;
}

// OC-POOL-3053: the old one has not been touched, and says why it stays.
void Manager::give_up_successor(OpenOperation& operation, Instant now, Effects& out) {
  Rollout& rollout = *operation.rollout;
  Replica& successor = *replicas_.at(rollout.new_id);
  const std::string why = rollout.new_id + ": " + successor.last_error();
  replicas_.at(rollout.old_id)->stays(std::string(to_string(operation.view.kind)) + ": " + why);
  operation.view.error += (rollout.back ? "; going back failed at " : "") + why;
  operation.view.step = rollout.new_id + " is removed";
  rollout.giving_up = true;
  successor.drain(Duration{}, DrainReason::rollout, now, out);
}

// What was replaced before is replaced back. When that fails too, it ends as it is: two generations, and two sets.
void Manager::successor_removed(OpenOperation& operation, Instant now, Effects& out) {
  Rollout& rollout = *operation.rollout;
  remove_replica(rollout.new_id, now, out);
  rollout.old_id.clear();
  rollout.giving_up = false;
  if (rollout.back) return finish(operation, operation.view.error, now, out);
  rollout.back = true;
  rollout.todo = std::exchange(rollout.undo, {});
  operation.view.done = 0;
}

void Manager::finish(OpenOperation& operation, std::string error, Instant now, Effects& out) {
  operation.view.state = error.empty() ? OperationState::succeeded : OperationState::failed;
  operation.view.error = std::move(error);
  operation.view.step.clear();
  operation.view.ended = now;
  ended_operations_.push_back(operation.view);
  if (ended_operations_.size() > settings_.limits.operations_kept) ended_operations_.pop_front();
  out.push_back(OperationEnded{operation.view});
}

// They stay known, for what they have begun is not to last (OC-POOL-3054).
void Manager::end_operations(const std::string& why, Instant now, Effects& out) {
  for (auto& [id, open] : open_operations_) {
    if (open.view.state == OperationState::running) finish(open, why, now, out);
  }
}

void Manager::remove_replica(const std::string& replica_id, Instant now, Effects& out) {
  ORCH_CHECK(replicas_.at(replica_id)->is_drained());
  out.push_back(ReplicaChanged{replicas_.at(replica_id)->view(now)});  // M6: how its last process ended
  replicas_.erase(replica_id);
  known_.erase(replica_id);
  contended_since_.erase(replica_id);
  reported_.erase(replica_id);
  loads_told_.erase(replica_id);
  out.push_back(ReplicaGone{replica_id});
}

std::vector<ReplicaSpec> Manager::specs() const {
  std::vector<ReplicaSpec> out;
  for (const auto& [id, replica] : replicas_) out.push_back(replica->spec());
  return out;
}

// OC-POOL-3054: an operation that is cut short has changed nothing, whatever else has ended meanwhile.
std::vector<ReplicaSpec> Manager::lasting_specs() const {
  if (settings_.mutation == Mutation::store_unfinished) return specs();
  std::map<std::string, ReplicaSpec> by_place;
  for (const auto& [id, replica] : replicas_) by_place.emplace(replica->spec().place, replica->spec());
  for (const auto& [id, open] : open_operations_) {
    if (!open.rollout) continue;
    for (const ReplicaSpec& before : open.rollout->before) by_place.insert_or_assign(before.place, before);
  }
  std::vector<ReplicaSpec> out;
  out.reserve(by_place.size());
  for (auto& [place, spec] : by_place) out.push_back(std::move(spec));
  return out;
}

std::vector<Operation> Manager::operations() const {
  std::vector<Operation> out(ended_operations_.begin(), ended_operations_.end());
  for (const auto& [id, open] : open_operations_) {
    if (open.view.state == OperationState::running) out.push_back(open.view);
  }
  std::sort(out.begin(), out.end(), [](const Operation& a, const Operation& b) { return a.id < b.id; });
  return out;
}

std::optional<Operation> Manager::operation(OperationId id) const {
  for (const Operation& each : operations()) {
    if (each.id == id) return each;
  }
  return std::nullopt;
}

}  // namespace orch::pool
