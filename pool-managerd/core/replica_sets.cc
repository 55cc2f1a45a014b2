#include "pool-managerd/core/replica_sets.h"

#include <array>

namespace orch::pool {

SetKey set_key_of(const WorkerFacts& facts) {
  return {.engine = facts.engine,
          .engine_version = facts.engine_version,
          .model_digest = facts.model_digest,
          .quant = facts.quant,
          .sampler_profile_version = facts.sampler_profile_version,
          .numeric_class = facts.numeric_class};
}

std::string difference(const SetKey& one, const SetKey& others) {
  struct Part {
    const char* name;
    const std::string& is;
    const std::string& set;
  };
  const std::array<Part, 6> parts{
      Part{"engine", one.engine, others.engine},
      Part{"engine_version", one.engine_version, others.engine_version},
      Part{"model_digest", one.model_digest, others.model_digest},
      Part{"quant", one.quant, others.quant},
      Part{"sampler_profile_version", one.sampler_profile_version, others.sampler_profile_version},
      Part{"numeric_class", one.numeric_class, others.numeric_class}};
  for (const Part& part : parts) {
    if (part.is != part.set)
      return std::string(part.name) + " is '" + part.is + "', the other replicas' is '" + part.set + "'";
  }
  return {};
}

void ReplicaSets::joined(const std::string& replica_id, Home home, SetKey key) {
  members_.insert_or_assign(replica_id, std::pair(std::move(home), std::move(key)));
}

const SetKey* ReplicaSets::others(const std::string& replica_id, const Home& home) const {
  for (const auto& [id, member] : members_) {
    if (id != replica_id && member.first == home) return &member.second;
  }
  return nullptr;
}

}  // namespace orch::pool
