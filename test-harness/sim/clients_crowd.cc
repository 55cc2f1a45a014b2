// Clients that come back: tenants that never stop waiting.
#include "sim/clients.h"

namespace orch::sim {

void Clients::keep_waiting(std::size_t gateway, const std::string& model, const std::string& tenant) {
  constexpr std::size_t kWaiting = 3;
  const gateway::Orchestrator* core = gateways_[gateway]->core();
  if (core == nullptr || core->draining()) return;
  steady_tenant_ = tenant;
  for (std::size_t waiting = core->queue().size_of(tenant); waiting < kWaiting; ++waiting)
    submit(gateway, model, Manners::steady);
}

}  // namespace orch::sim
