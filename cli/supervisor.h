// The process that `up` leaves behind: keeps orchestratord and pool-managerd running, restarts them with backoff, and
// ends them on SIGTERM or SIGINT. It decides nothing else and holds no socket.
#pragma once

#include <string>

#include "cli/cluster_files.h"

namespace orch::cli {

struct SupervisorOptions {
  std::string binary_dir;
  std::string state_dir;
};

// Runs until told to stop; the exit code of the process. A child that ends with a configuration exit code (64 to 78:
// its input is wrong, a restart cannot help) ends the whole cluster, and the reason is left in
// ClusterFiles::supervisor_failure. The logs of the children and its own are cut at 8 MiB, each with one predecessor.
int run_supervisor(const SupervisorOptions& options);

}  // namespace orch::cli
