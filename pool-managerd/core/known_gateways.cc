#include "pool-managerd/core/known_gateways.h"

#include <algorithm>

namespace orch::pool {

bool KnownGateways::told(const OrchId& orch, const std::string& url) {
  if (url.empty()) return gateways_.erase(orch) > 0;
  Told& entry = gateways_[orch];
  entry.left = kAttached;
  const bool changed = entry.url != url;
  entry.url = url;
  if (gateways_.size() > kGatewaysKnownMax) {
    gateways_.erase(std::min_element(gateways_.begin(), gateways_.end(),
                                     [](const auto& a, const auto& b) { return a.second.left < b.second.left; }));
  }
  return changed;
}

void KnownGateways::left(const OrchId& orch) {
  const auto found = gateways_.find(orch);
  if (found != gateways_.end()) found->second.left = ++leavings_;
}

std::vector<GatewayAddress> KnownGateways::all() const {
  std::vector<GatewayAddress> out;
  out.reserve(gateways_.size());
  for (const auto& [orch, told] : gateways_) out.push_back({orch, told.url});
  return out;
}

}  // namespace orch::pool
