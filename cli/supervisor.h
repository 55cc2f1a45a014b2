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

// Runs until told to stop; the exit code of the process. A child that refuses to start (64 to 78) before it was up once
// ends the whole cluster, since its input is wrong and a restart cannot help; the reason is left in
// ClusterFiles::supervisor_failure. After that every end of a child is a fault that passes. The logs of the children
// and its own are cut at 8 MiB, each with one predecessor.
int run_supervisor(const SupervisorOptions& options);

}  // namespace orch::cli
