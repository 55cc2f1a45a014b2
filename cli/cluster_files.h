// The files of the embedded cluster of one user on one machine: configuration, state, logs, sockets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace orch::cli {

struct ClusterOptions {
  std::string state_dir;   // absolute
  std::string binary_dir;  // of orchestratord, pool-managerd, workerd, adapterd
  std::string http_listen = "127.0.0.1:8080";
  std::string grpc_listen = "127.0.0.1:8081";
  std::string models_dir;  // of `models pull`; <model_name>.gguf in it is served unless model_path says another file
  std::string model_path;
  std::string model_name;
  std::string model_digest;  // "sha256:<hex>"; empty: not checked
  std::string device = "auto";
  std::uint32_t slots = 4;
  std::uint32_t threads = 0;  // 0: the worker's own rule
};

// All paths under one state directory.
struct ClusterFiles {
  explicit ClusterFiles(std::string state_dir);

  std::string state_dir;
  std::string config_dir;
  std::string log_dir;
  std::string orchestratord_config;
  std::string pool_managerd_config;
  std::string orchestratord_state;
  std::string pool_managerd_state;
  std::string supervisor_pid;  // locked by the running supervisor; holds its pid
  std::string supervisor_log;
  std::string supervisor_failure;   // why the supervisor gave up, in words; absent while it has not
  std::string supervisor_restarts;  // which daemons do not stay up, a line each; absent while all do
  std::string http_port;            // written by orchestratord
  std::string manager_http_port;    // written by pool-managerd
};

// $LLAMA_ORCH_STATE, else $XDG_STATE_HOME/llama-orch, else $HOME/.local/state/llama-orch.
std::string default_state_dir();

// $LLAMA_ORCH_DATA, else $XDG_DATA_HOME/llama-orch, else $HOME/.local/share/llama-orch; models/ below it.
std::string default_models_dir();

// Quotes a scalar for YAML (double-quoted style).
std::string yaml_quoted(const std::string& text);

std::string orchestratord_config_text(const ClusterOptions& options, const ClusterFiles& files);
std::string pool_managerd_config_text(const ClusterOptions& options, const ClusterFiles& files);

// Creates the directories (0700) and writes both configurations, each by atomic rename. Error: what failed, with the
// path.
Status<std::string> write_cluster_files(const ClusterOptions& options, const ClusterFiles& files);

Result<std::string, std::string> read_small_file(const std::string& path);  // at most 1 MiB
// What the supervisor says of the daemons that it has to start again (OC-CLI-1012).
std::vector<std::string> restart_lines(const ClusterFiles& files);
Status<std::string> write_file_atomically(const std::string& path, const std::string& text);

}  // namespace orch::cli
