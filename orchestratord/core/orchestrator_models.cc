// Models as operators move them: which version a request gets, and the changes themselves.
#include <algorithm>

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
