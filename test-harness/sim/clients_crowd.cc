// Clients that come back: tenants that never stop waiting, and prompts that are tried at one gateway after another.
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

// It did not go well, so it is tried elsewhere, and there again: at each gateway twice in a while.
void Clients::send_elsewhere(std::size_t gateway, const std::string& model, const std::string& prompt) {
  if (gateways_.size() < 2) return;
  for (std::size_t i = 0; i < 2 * gateways_.size(); ++i) {
    const std::size_t to = i % gateways_.size();
    if (i == gateway) continue;
    world_.after(world_.between({}, Duration::milliseconds(i < gateways_.size() ? 500 : 8000)),
                 [this, to, model, prompt] {
                   if (gateways_[to]->core() == nullptr || world_.healed()) return;
                   poison_ = prompt;
                   submit(to, model, Manners::any);
                   poison_.clear();
                 });
  }
}

}  // namespace orch::sim
