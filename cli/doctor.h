// What this machine has and what is wrong with it, for a person: programs, memory, devices with the reason when one is
// left out, model files and whether they fit (ENGINE-RULES interface 8), the ports, the cluster.
#pragma once

#include "cli/cluster_files.h"

namespace orch::cli {

// 0: nothing is wrong; 1: something is, named on its line with "!".
int run_doctor(const ClusterOptions& options);

// The model files of this user with their digests and memory need.
int run_models(const ClusterOptions& options);

}  // namespace orch::cli
