// drain, undrain, restart and reload: begins the operation at pool-managerd and follows it to its end. Each returns the
// exit code of the process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cli/cluster_files.h"
#include "common/base/result.h"

namespace orch::cli {

struct OperationWish {
  std::string verb;    // drain | undrain | restart | reload
  std::string target;  // a pool or a replica; empty: the pool of the options' model
  double deadline_seconds = 30;
  std::string model;   // reload: a file, or the name of one that was pulled
  std::string digest;  // reload; empty: what stands beside the file
};

int run_operation(const ClusterOptions& options, const OperationWish& wish);

// The path of the request: `/v1/pools/<id>/<verb>` or `/v1/replicas/<id>/<verb>`. `replicas` is the body of
// GET /v1/replicas. Error: what there is instead.
Result<std::string, std::string> operation_path(std::string_view replicas, const std::string& target,
                                                const std::string& verb);

}  // namespace orch::cli
