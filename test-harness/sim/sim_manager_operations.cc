// What an operator asks of a simulated pool-managerd, and what becomes of it (OC-POOL-3050 to 3054).
#include <algorithm>
#include <utility>

#include "sim/sim_manager.h"

namespace orch::sim {

// Files of a model are "/models/<digest>#<copy>": its weights, and which of several files with them.
std::string model_path(const std::string& digest, std::uint64_t copy) {
  return "/models/" + digest + "#" + std::to_string(copy);
}
std::string digest_in(const std::string& path) {
  const std::size_t begin = path.rfind('/') + 1;
  return path.substr(begin, path.rfind('#') - begin);
}

std::optional<pool::ReplicaSpec> SimManager::spec_of(const std::string& replica_id) const {
  const std::vector<pool::ReplicaSpec> specs = core_->specs();
  const auto spec =
      std::find_if(specs.begin(), specs.end(), [&](const auto& each) { return each.replica_id == replica_id; });
  return spec == specs.end() ? std::nullopt : std::optional(*spec);
}

void SimManager::ask(pool::StartOperation operation) {
  operation.request = RequestId{next_request_++};
  asked_.insert(operation.request);
  if (world_.tracing()) {
    world_.trace(node_.name, "is asked for the " + std::string(pool::to_string(operation.kind)) + " of " +
                                 operation.pool_id + operation.replica_id);
  }
  step(operation);
}

void SimManager::answered(const pool::OperationReply& reply) {
  if (asked_.erase(reply.request) == 0) return world_.violation(node_.name + ": an operation is answered twice");
  if (!reply.operation) return;
  if (reply.operation->state == pool::OperationState::running) operations_.insert(reply.operation->id);
}

void SimManager::ended(const pool::Operation& operation) {
  const bool was_open = operations_.erase(operation.id) > 0;
  // One that has nothing to wait for ends in the step that accepts it.
  if (!was_open && operation.ended != operation.begun)
    return world_.violation(node_.name + ": an operation ends twice");
  if (operation.state == pool::OperationState::running)
    return world_.violation(node_.name + ": an operation has ended and runs");
  world_.coverage().edge(operation.kind, operation.state);
  if (world_.tracing()) {
    world_.trace(node_.name, "the " + std::string(pool::to_string(operation.kind)) + " of " + operation.pool_id +
                                 operation.replica_id +
                                 " ends: " + (operation.error.empty() ? std::string("well") : operation.error));
  }
  // OC-POOL-3054: what it has come to is written down.
  for (const pool::ReplicaSpec& is : core_->lasting_specs()) {
    const auto stored =
        std::find_if(stored_.begin(), stored_.end(), [&](const auto& each) { return each.place == is.place; });
    if (stored == stored_.end()) return world_.violation(node_.name + ": a replica at a place that nobody configured");
    if (is.generation != stored->generation && is.pool_id != operation.pool_id)
      return world_.violation(node_.name + ": an operation has changed another pool");
    const bool as_before = is.model_path == stored->model_path;
    if (operation.state == pool::OperationState::failed && !as_before &&
        operation.error.find("going back failed") == std::string::npos)
      return world_.violation(node_.name + ": an operation failed and its model stays");
    *stored = is;
  }
}

void SimManager::drain_some(std::uint64_t pick, Duration deadline) {
  if (!core_ || !node_.alive || stored_.size() < 2) return;
  const std::string& replica = stored_[1 + pick % (stored_.size() - 1)].replica_id;
  ask({.request = {}, .kind = pool::OperationKind::drain, .pool_id = {}, .replica_id = replica, .deadline = deadline});
}

void SimManager::undrain_some(std::uint64_t pick) {
  if (!core_ || !node_.alive) return;
  const std::string& replica = stored_[pick % stored_.size()].replica_id;
  ask({.request = {}, .kind = pool::OperationKind::undrain, .pool_id = {}, .replica_id = replica, .deadline = {}});
}

void SimManager::operate(const gateway::OperateReplica& operation) {
  if (!core_ || !node_.alive) return;
  ask({.request = {},
       .kind = operation.bring_back ? pool::OperationKind::undrain : pool::OperationKind::drain,
       .pool_id = {},
       .replica_id = operation.replica_id,
       .deadline = operation.deadline});
}

void SimManager::undrain_all() {
  if (!core_ || !node_.alive) return;
  for (const pool::ReplicaView& view : core_->replicas(node_.clock.local(world_.now()))) {
    if (view.state != ReplicaState::stopped && view.state != ReplicaState::draining) continue;
    ask({.request = {},
         .kind = pool::OperationKind::undrain,
         .pool_id = {},
         .replica_id = view.replica_id,
         .deadline = {}});
  }
}

void SimManager::roll_out(std::uint64_t pick, Rollout rollout, Duration deadline) {
  if (!core_ || !node_.alive) return;
  const pool::ReplicaSpec& one = stored_[pick % stored_.size()];
  pool::StartOperation operation{.request = {},
                                 .kind = pool::OperationKind::restart,
                                 .pool_id = one.pool_id,
                                 .replica_id = {},
                                 .deadline = deadline};
  if (rollout != Rollout::restart) {
    const std::string digest = rollout == Rollout::other_weights
                                   ? "sha256:" + one.model_name + "." + std::to_string(pick % 3)
                                   : one.model_digest;
    operation.kind = pool::OperationKind::reload;
    operation.model = pool::ModelFile{.path = model_path(digest, next_request_), .digest = digest};
    if (rollout == Rollout::wrong_digest) operation.model->digest = "sha256:another";
  }
  ask(std::move(operation));
}

}  // namespace orch::sim
