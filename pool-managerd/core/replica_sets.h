// Which replica sets a host serves: what the ready replicas of a pool have in common and a further one must have too
// (ORCH-3007, ORCH-3046, OC-POOL-3046). The context is left out: it follows from the memory that is left. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "pool-managerd/core/events.h"

namespace orch::pool {

struct SetKey {
  std::string engine;
  std::string engine_version;
  std::string model_digest;
  std::string quant;
  std::string sampler_profile_version;
  std::string numeric_class;
};

SetKey set_key_of(const WorkerFacts& facts);
// The first part that differs, in words; empty: none.
std::string difference(const SetKey& one, const SetKey& others);

class ReplicaSets {
 public:
  // Replicas of one pool and generation are one set: a reload's successors are the next generation's.
  struct Home {
    std::string pool_id;
    std::uint32_t generation = 0;
    auto operator<=>(const Home&) const = default;
  };

  void joined(const std::string& replica_id, Home home, SetKey key);
  void left(const std::string& replica_id) { members_.erase(replica_id); }
  // Of any other member; null: there is none.
  const SetKey* others(const std::string& replica_id, const Home& home) const;

 private:
  std::map<std::string, std::pair<Home, SetKey>> members_;
};

}  // namespace orch::pool
