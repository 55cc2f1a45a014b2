// The addresses that gateways have told of themselves (OC-JOB-1016). They outlive the link: a gateway that is gone may
// be on its way back. Pure; bounded by kGatewaysKnownMax: past it the one that left longest ago goes first.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "common/base/gateway_address.h"

namespace orch::pool {

class KnownGateways {
 public:
  // Empty: it tells no address any more. True: something changed.
  bool told(const OrchId& orch, const std::string& url);
  void left(const OrchId& orch);
  std::vector<GatewayAddress> all() const;

 private:
  static constexpr std::uint64_t kAttached = std::numeric_limits<std::uint64_t>::max();
  struct Told {
    std::string url;
    std::uint64_t left = kAttached;  // when, by count
  };
  std::map<OrchId, Told> gateways_;
  std::uint64_t leavings_ = 0;
};

}  // namespace orch::pool
