// Where the other gateways are reached, as the managers say (OC-JOB-1016).
//
// Threads: owned by the core's loop. Bounds: kGatewaysKnownMax; what more is told is ignored until the next list.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/base/gateway_address.h"

namespace orch::gateway {

class OtherGateways {
 public:
  // All that one manager knows. Managers may know different ones; the last word about each holds.
  void told(const std::vector<GatewayAddress>& gateways);
  // nullptr: unknown.
  const std::string* address_of(const OrchId& orch) const;
  std::size_t size() const { return urls_.size(); }

 private:
  std::map<OrchId, std::string> urls_;
};

}  // namespace orch::gateway
