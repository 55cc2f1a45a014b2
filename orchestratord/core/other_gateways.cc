#include "orchestratord/core/other_gateways.h"

namespace orch::gateway {

void OtherGateways::told(const std::vector<GatewayAddress>& gateways) {
  for (const GatewayAddress& gateway : gateways) {
    if (!is_public_url(gateway.url)) continue;
    if (urls_.size() < kGatewaysKnownMax || urls_.contains(gateway.orch)) urls_[gateway.orch] = gateway.url;
  }
}

const std::string* OtherGateways::address_of(const OrchId& orch) const {
  const auto found = urls_.find(orch);
  return found == urls_.end() ? nullptr : &found->second;
}

}  // namespace orch::gateway
