// The small commands over the running cluster. Each returns the exit code of the process.
#pragma once

#include <cstdint>
#include <string>

#include "cli/cluster_files.h"

namespace orch::cli {

int run_ps(const ClusterOptions& options);
int run_status(const ClusterOptions& options);
int run_logs(const ClusterOptions& options, const std::string& process, std::uint32_t lines);
int run_cancel(const ClusterOptions& options, const std::string& task_id);
int run_down(const ClusterOptions& options);

}  // namespace orch::cli
