// The addresses that gateways have told of themselves (OC-JOB-1016). They outlive the link: a gateway that is gone may
// be on its way back. Pure; bounded by kGatewaysKnownMax, those told last.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/gateway_address.h"

namespace orch::pool {

class KnownGateways {
 public:
  // Empty: it tells no address any more. True: something changed.
  bool told(const OrchId& orch, const std::string& url);
  std::vector<GatewayAddress> all() const;

 private:
  struct Told {
    std::string url;
    std::uint64_t at = 0;  // by count
  };
  std::map<OrchId, Told> gateways_;
  std::uint64_t count_ = 0;
};

}  // namespace orch::pool
