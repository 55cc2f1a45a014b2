// What a job demands of a replica.
#pragma once

#include <compare>
#include <string>

#include "orchestratord/core/job_spec.h"

namespace orch::gateway {

// What a job demands of a replica beyond room. Jobs of one lane may run on the same replicas.
struct Lane {
  std::string model;   // served name
  std::string digest;  // when the client named a digest; else empty
  bool require_gpu = false;
  bool strict = false;     // needs a declared numeric class (ruling 9)
  std::string exact = {};  // a replica_set_key: the job continues what such a replica began (J4, M2); else empty
  PlacementWish wish = {};
  auto operator<=>(const Lane&) const = default;
};

}  // namespace orch::gateway
