#include "sim/operators.h"

#include <algorithm>
#include <utility>

namespace orch::sim {

RequestId Operators::ask(std::size_t gateway) {
  const RequestId request{next_++};
  asked_[request] = gateway;
  return request;
}

// One quota each, so that every kind is met; a tenant keeps its weight once it has one (see FairWatch). Quotas that the
// orchestratord share are changed at all of them that are up.
void Operators::change_tenants(std::size_t gateway) {
  if (gateways_[gateway]->core() == nullptr) return;
  Prng& rng = world_.rng();
  world_.count(Fault::tenants_change);
  world_.disturb(Instant::never());  // weights and caps of one gateway are no longer those of another
  gateway::TenantsConfig config;
  config.dry_run = rng.below(4) == 0;
  config.tenants.resize(3);
  for (std::size_t i = 0; i < config.tenants.size(); ++i) config.tenants[i].name = "t" + std::to_string(i);
  const bool shared = rng.below(2) == 0;
  config.gateways = shared ? static_cast<std::int64_t>(gateways_.size()) : 1;
  config.tenants[0].quotas.concurrent_jobs = rng.between(config.gateways, 6);
  config.tenants[1].quotas.requests_per_second = rng.between(config.gateways, 3);
  config.tenants[2].quotas.tokens_per_minute = rng.between(300, 6000);
  config.tenants[2].weight = 2;
  config.tenants[2].running_max = rng.between(0, 2);
  if (rng.below(8) == 0) config.tenants[1].weight = 0;  // impossible
  for (std::size_t i = 0; i < gateways_.size(); ++i) {
    if (i != gateway && (!shared || gateways_[i]->core() == nullptr)) continue;
    gateways_[i]->event(gateway::TenantsChanged{ask(i), config});
    if (config.tenants[1].weight > 0) third_weight_[i] = config.tenants[2].weight;
  }
}

void Operators::set_state(std::size_t gateway, const gateway::ModelKey& model, gateway::ModelStanding to) {
  gateways_[gateway]->event(gateway::SetModelState{ask(gateway), model, to});
}

void Operators::change_model(std::size_t gateway, const std::string& model) {
  if (gateways_[gateway]->core() == nullptr) return;
  Prng& rng = world_.rng();
  world_.count(Fault::model_change);
  world_.disturb(Instant::never());  // what may be served at one gateway may not at another
  if (rng.below(3) == 0) return gateways_[gateway]->event(gateway::RollBackModel{ask(gateway), model});
  const std::uint64_t version = rng.below(4);  // what reloads may have put in its place
  const gateway::ModelKey key{model, "sha256:" + model + (version == 3 ? "" : "." + std::to_string(version))};
  gateway::ModelStanding to{static_cast<gateway::ModelState>(rng.below(5)), 0};
  if (to.state == gateway::ModelState::canary) to.percent = static_cast<std::uint32_t>(rng.below(102));
  set_state(gateway, key, to);
}

void Operators::restore() {
  for (std::size_t i = 0; i < gateways_.size(); ++i) {
    if (gateways_[i]->core() == nullptr) continue;
    gateway::TenantsConfig config;
    config.tenants.resize(1);  // its weight stays
    config.tenants[0].name = "t2";
    // One that pauses has not heard yet of what it was told last.
    config.tenants[0].weight = std::max<std::int64_t>(gateways_[i]->core()->tenants().weight("t2"), third_weight_[i]);
    gateways_[i]->event(gateway::TenantsChanged{ask(i), std::move(config)});
    for (const auto& [model, standing] : gateways_[i]->core()->lifecycle().all()) {
      if (standing.state == gateway::ModelState::retired) set_state(i, model, {gateway::ModelState::draft, 0});
      if (standing.state != gateway::ModelState::active) set_state(i, model, {gateway::ModelState::active, 0});
    }
  }
}

void Operators::answered(RequestId request) {
  if (asked_.erase(request) == 0) world_.violation("an operator was answered twice");
}

void Operators::receive(const gateway::Effect& effect) {
  if (const auto* tenants = std::get_if<gateway::TenantsReply>(&effect)) answered(tenants->request);
  if (const auto* models = std::get_if<gateway::ModelsChanged>(&effect)) answered(models->request);
}

void Operators::gateway_crashed(std::size_t gateway) {
  std::erase_if(asked_, [&](const auto& entry) { return entry.second == gateway; });
}

std::string Operators::check_rest() const {
  return asked_.empty() ? std::string() : "a change of tenants or models was never answered";
}

}  // namespace orch::sim
