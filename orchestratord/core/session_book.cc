#include "orchestratord/core/session_book.h"

namespace orch::gateway {

void SessionBook::used(const SessionKey& key, Instant now) {
  const auto known = last_used_.find(key);
  if (known != last_used_.end()) by_age_.erase({known->second, key});
  while (!by_age_.empty() &&
         (by_age_.begin()->first + ttl_ <= now || (known == last_used_.end() && last_used_.size() >= kSessionsMax))) {
    last_used_.erase(by_age_.begin()->second);
    by_age_.erase(by_age_.begin());
  }
  last_used_[key] = now;
  by_age_.emplace(now, key);
}

bool SessionBook::known(const SessionKey& key, Instant now) const {
  const auto it = last_used_.find(key);
  return it != last_used_.end() && now < it->second + ttl_;
}

}  // namespace orch::gateway
