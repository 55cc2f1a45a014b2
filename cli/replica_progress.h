// What the pool manager's GET /v1/replicas says of one model, for a person who waits for it. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace orch::cli {

struct ReplicaProgress {
  std::string text;  // "pool-0 preloading 40 %"; empty while nothing is known
  // Set when every replica of the model has failed: waiting longer would not help. Says what and why.
  std::optional<std::string> failure;
};

// A body that is no such list reads as "nothing is known".
ReplicaProgress read_replica_progress(std::string_view body, std::string_view model_name);

}  // namespace orch::cli
