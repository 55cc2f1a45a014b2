// Who changes tenants and models of the simulated orchestratord while jobs run, and puts all back at the end. Every
// change is answered once, also an impossible one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "orchestratord/core/effects.h"
#include "sim/sim_gateway.h"
#include "sim/world.h"

namespace orch::sim {

class Operators {
 public:
  explicit Operators(World& world) : world_(world) {}

  void set_gateways(std::vector<SimGateway*> gateways) { gateways_ = std::move(gateways); }
  void change_tenants(std::size_t gateway);
  void change_model(std::size_t gateway, const std::string& model);
  void restore();  // no quota, every model active; of the gateways that are up
  void receive(const gateway::Effect& effect);
  void gateway_crashed(std::size_t gateway);
  std::string check_rest() const;  // with all quiet: every request was answered; empty: well

 private:
  RequestId ask(std::size_t gateway);
  void set_state(std::size_t gateway, const gateway::ModelKey& model, gateway::ModelStanding to);
  void answered(RequestId request);

  World& world_;
  std::vector<SimGateway*> gateways_;
  std::map<RequestId, std::size_t> asked_;            // and not answered: of which gateway
  std::map<std::size_t, std::int64_t> third_weight_;  // of t2 at each gateway, as it was told last
  std::uint64_t next_ = 1;
};

}  // namespace orch::sim
