#include "orchestratord/core/other_gateways.h"

#include <utility>

namespace orch::gateway {

void OtherGateways::told(ManagerId manager, const std::vector<GatewayAddress>& gateways) {
  const List& before = lists_[manager];
  List now;
  ++count_;
  for (const GatewayAddress& gateway : gateways) {
    if (now.size() >= kGatewaysKnownMax) break;
    if (!is_public_url(gateway.url)) continue;
    const auto known = before.find(gateway.orch);
    const bool news = known == before.end() || known->second.url != gateway.url;
    now[gateway.orch] = {gateway.url, news ? count_ : known->second.at};
  }
  if (now.empty()) {
    lists_.erase(manager);
  } else {
    lists_[manager] = std::move(now);
  }
}

void OtherGateways::keep_only(const std::function<bool(ManagerId)>& known) {
  std::erase_if(lists_, [&](const auto& entry) { return !known(entry.first); });
}

const std::string* OtherGateways::address_of(const OrchId& orch) const {
  const Told* last = nullptr;
  for (const auto& [manager, list] : lists_) {
    const auto found = list.find(orch);
    if (found != list.end() && (last == nullptr || found->second.at > last->at)) last = &found->second;
  }
  return last == nullptr ? nullptr : &last->url;
}

}  // namespace orch::gateway
