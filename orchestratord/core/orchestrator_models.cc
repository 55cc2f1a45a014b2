// Models as operators move them: which version a request gets, and the changes themselves.
#include <algorithm>
#include <utility>

#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {

// OC-MODEL-1003 to 1005. `version` stays empty where any digest of the name will do.
std::optional<Failure> Orchestrator::route_model(const JobSpec& spec, std::string& version) const {
  if (lifecycle_.all().empty()) return std::nullopt;
  const std::optional<Lane> lane = fleet_.resolve(spec.model_ref);
  if (!lane) return std::nullopt;  // an unknown model is refused as one
  ModelLifecycle::Question question{
      lane->model, lane->digest, spec.session.empty() ? spec.id.to_string() : spec.session, fleet_.digests(lane->model),
      !spec.session.empty() && sessions_.known({spec.tenant, spec.session, lane->model}, now_)};
  ModelLifecycle::Route route = lifecycle_.route(question);
  // A canary that cannot serve must not fail those it was to be tried on.
  if (route.state == ModelState::canary && lane->digest.empty() && question.known.size() > 1) {
    Lane canary = *lane;
    canary.digest = route.digest;
    if (fleet_.status(canary).standing < Standing::returning) {
      std::erase(question.known, route.digest);
      route = lifecycle_.route(question);
    }
  }
  version = route.digest;
  if (!route.refused) return std::nullopt;
  Failure failure;
  failure.outcome = *route.refused;
  failure.field = "model_ref";
  failure.message = *route.refused == Outcome::MODEL_NOT_FOUND
                        ? "no pool serves the model '" + lane->model + "'"
                        : "the model '" + lane->model + "' is " + model_state_name(route.state) +
                              (route.state == ModelState::deprecated ? " and takes no new sessions" : "");
  return failure;
}

// OC-MODEL-1008, ORCH-3070: a retired model is unloaded, and loaded when it is wanted again. By what is so, not by what
// happened: a manager that attaches later, begins anew or refused for a rollout under way is asked like the others.
// What an operator had drained of a retired model before is brought back too. In a later life the state says that a
// model was unloaded: what is down when it is seen first was drained for that.
void Orchestrator::load_and_unload() {
  const std::pair versions{fleet_.version(), lifecycle_.version()};
  const bool nothing_to_do = lifecycle_.all().empty() && unloaded_.empty();
  if (nothing_to_do || drain_end_ || (std::exchange(loads_seen_, versions) == versions && ask_again_at_ > now_)) return;
  ask_again_at_ = Instant::never();
  std::erase_if(unloaded_, [&](const auto& entry) { return fleet_.find(entry.first) == nullptr; });
  std::erase_if(loads_judged_, [&](const auto& key) { return fleet_.find(key) == nullptr; });
  for (const auto& [manager, record] : fleet_.managers()) {
    for (const auto& [id, replica] : record.replicas) {
      const ReplicaKey key{manager, id};
      const ModelStanding standing = lifecycle_.of({replica.model_name, replica.model_digest});
      const bool retired = standing.state == ModelState::retired;
      const bool down = replica.state == ReplicaState::draining || replica.state == ReplicaState::stopped;
      const bool is_new = loads_judged_.insert(key).second;
      if (is_new && down && standing.unloaded) unloaded_.try_emplace(key);
      if (!retired && !unloaded_.contains(key)) continue;
      if (!retired && !down) {
        unloaded_.erase(key);
        continue;
      }
      Instant& ask_at = unloaded_[key];
      if (retired == down) ask_at = {};
      if (retired == down || !record.link) continue;
      if (ask_at <= now_) {
        ask_at = now_ + config_.limits.operation_retry;
        emit(OperateReplica{*record.link, id, !retired, config_.limits.wall_max});  // no job runs longer
      }
      ask_again_at_ = std::min(ask_again_at_, ask_at);
    }
  }
  note_loaded();
}

// A manager that is away may be back with drained replicas however late: until all that are configured are there it is
// remembered that a model was unloaded.
void Orchestrator::note_loaded() {
  std::vector<ModelKey> unloaded;
  for (const auto& [model, standing] : lifecycle_.all()) {
    if (standing.unloaded) unloaded.push_back(model);
  }
  if (unloaded.empty() || fleet_.links().size() < config_.managers) return;
  bool settled = false;
  for (const ModelKey& model : unloaded) {
    const bool waits = std::any_of(unloaded_.begin(), unloaded_.end(), [&](const auto& entry) {
      const ReplicaView* replica = fleet_.find(entry.first);
      return ModelKey{replica->model_name, replica->model_digest} == model;
    });
    if (waits) continue;
    lifecycle_.loaded(model);
    settled = true;
  }
  if (settled) emit(ModelsSettled{lifecycle_.all()});
}

void Orchestrator::on(const SetModelState& event) {
  std::optional<Failure> failure = lifecycle_.change(event.model, event.to);
  if (!failure) ++load_version_;
  emit(ModelsChanged{event.request, std::move(failure), lifecycle_.all()});
}

void Orchestrator::on(const RollBackModel& event) {
  std::optional<Failure> failure = lifecycle_.roll_back(event.name);
  if (!failure) ++load_version_;
  emit(ModelsChanged{event.request, std::move(failure), lifecycle_.all()});
}

}  // namespace orch::gateway
