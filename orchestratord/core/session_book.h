// Which sessions a model has served lately (OC-MODEL-1004). By a monotonic clock; a session lives on from its last use.
//
// Threads: owned by the core's loop. Bounds: kSessionsMax sessions, least recently used first out.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "common/base/time.h"

namespace orch::gateway {

struct SessionKey {
  std::string tenant;
  std::string session;
  std::string model;
  auto operator<=>(const SessionKey&) const = default;
};

class SessionBook {
 public:
  static constexpr std::size_t kSessionsMax = 65'536;

  explicit SessionBook(Duration ttl) : ttl_(ttl) {}

  void used(const SessionKey& key, Instant now);
  bool known(const SessionKey& key, Instant now) const;
  std::size_t size() const { return last_used_.size(); }

 private:
  Duration ttl_;
  std::map<SessionKey, Instant> last_used_;
  std::set<std::pair<Instant, SessionKey>> by_age_;
};

}  // namespace orch::gateway
