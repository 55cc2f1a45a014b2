// Where the other gateways are reached, as the managers say (OC-JOB-1016). Each says all that it knows, so its last
// list takes the place of the one before: what is missing from it is not kept for this manager any more. Managers may
// know different addresses of one gateway: the one that was news last holds, however often others repeat an older one.
//
// Threads: owned by the core's loop. Bounds: kGatewaysKnownMax of each manager, and managers are forgotten by
// keep_only().
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/base/gateway_address.h"
#include "common/base/ids.h"

namespace orch::gateway {

class OtherGateways {
 public:
  // All that this manager knows.
  void told(ManagerId manager, const std::vector<GatewayAddress>& gateways);
  // Forgets what the others said.
  void keep_only(const std::function<bool(ManagerId)>& known);
  // nullptr: unknown.
  const std::string* address_of(const OrchId& orch) const;
  std::size_t managers() const { return lists_.size(); }

 private:
  struct Told {
    std::string url;
    std::uint64_t at = 0;  // when this manager said so first, by count
  };
  using List = std::map<OrchId, Told>;
  std::map<ManagerId, List> lists_;  // none empty
  std::uint64_t count_ = 0;
};

}  // namespace orch::gateway
