// Starting the embedded cluster and asking it something.
#pragma once

#include <cstdio>
#include <string>

#include "cli/cluster_files.h"

namespace orch::cli {

enum class ShowTiming { no, yes };

// Starts the supervisor unless it runs, then waits until the model is served. Progress goes to standard error. 0, or
// the exit code of the command with the reason on standard error.
int ensure_up(const ClusterOptions& options);

// Streams one chat answer to standard output; ShowTiming::yes adds time to first token, tokens/s and the device to
// standard error. The text is printed as it arrives.
int stream_chat(const ClusterOptions& options, const std::string& prompt, std::uint32_t max_tokens, double temperature,
                ShowTiming timing);

// `up`: ensure_up, a haiku, and where the endpoint is.
int run_up(const ClusterOptions& options);

// "http://127.0.0.1:8080" of the running cluster; the configured address when it does not say otherwise.
std::string base_url(const ClusterOptions& options);

}  // namespace orch::cli
