#include "orchestratord/core/earlier_life.h"

#include <algorithm>

namespace orch::gateway {
namespace {

// A heartbeat keeps a job for one life of its lease by the worker's clock (L5). The rest is for clocks that run a tenth
// apart (L4), for a heartbeat that was still under way when its sender died, and for the step that ends the job.
Duration longest(Duration ttl) { return ttl + ttl / 4; }

}  // namespace

void EarlierLife::left(const std::vector<LeasingManager>& managers, Duration ttl, Instant now) {
  over_ = false;
  from_ = until_ = now;
  ttl_ = ttl;
  for (const LeasingManager& each : managers) {
    managers_[each.manager] = each.ttl;
    until_ = std::max(until_, now + longest(each.ttl));
  }
}

Instant EarlierLife::until(ManagerId manager) const {
  const auto known = managers_.find(manager);
  return from_ + longest(known == managers_.end() ? ttl_ : known->second);
}

bool EarlierLife::is_over(const Fleet& fleet, Instant now) {
  if (over_) return true;
  over_ = until_ <= now || std::all_of(managers_.begin(), managers_.end(),
                                       [&](const auto& entry) { return is_over_at(entry.first, fleet); });
  if (over_) words_.clear();
  return over_;
}

bool EarlierLife::is_over_at(ManagerId manager, const Fleet& fleet) const {
  const auto record = fleet.managers().find(manager);
  if (record == fleet.managers().end()) return false;
  const auto& replicas = record->second.replicas;
  return std::all_of(replicas.begin(), replicas.end(), [&](const auto& entry) {
    const auto word = words_.find({manager, entry.first});
    return !entry.second.has_process || (word != words_.end() && word->second == entry.second.inc);
  });
}

}  // namespace orch::gateway
