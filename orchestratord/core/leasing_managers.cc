#include "orchestratord/core/leasing_managers.h"

#include <algorithm>

namespace orch::gateway {

void LeasingManagers::found(const std::vector<LeasingManager>& managers) {
  for (const LeasingManager& each : managers) durable_[each.manager] = each.ttl;
  wanted_ = durable_;
}

// Leases of the longer life may still be there when a manager comes back with a shorter one.
void LeasingManagers::grants(ManagerId manager, Duration ttl) {
  Duration& life = wanted_[manager];
  life = std::max(life, ttl);
}

bool LeasingManagers::known(ManagerId manager, Duration ttl) const {
  const auto entry = durable_.find(manager);
  return entry != durable_.end() && entry->second >= ttl;
}

// A write that fails may be on the disk all the same: what it drops counts as gone from now on.
ManagersRecord LeasingManagers::write() {
  sent_ = wanted_;
  under_way_ = true;
  std::erase_if(durable_, [&](const auto& entry) { return !sent_.contains(entry.first); });
  ManagersRecord record;
  for (const auto& [manager, ttl] : sent_) record.managers.push_back({manager, ttl});
  return record;
}

void LeasingManagers::written(bool committed) {
  under_way_ = false;
  if (committed) durable_ = sent_;
}

}  // namespace orch::gateway
