// How a replica of a pool is started: program, arguments, environment and files, from the configuration. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "gen/config_pool_managerd.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/settings.h"

namespace orch::pool {

inline constexpr int kLifelineFd = 3;  // in the child

// The core's settings; places are called "<pool id>-<index>".
Settings settings_from(const Config& config, ManagerId manager, std::uint64_t boot);

// "boot.counter", as it stands in log lines and file names.
std::string inc_text(Incarnation inc);

class WorkerCommands {
 public:
  // `program_dir`: where workerd and adapterd lie.
  WorkerCommands(const Config& config, std::string program_dir, std::string state_dir);

  // A sentence when a worker's socket path would not fit into sockaddr_un.
  Status<std::string> check_socket_paths(std::uint64_t boot) const;

  // Null: not configured.
  const Config::Pool* pool(const std::string& pool_id) const;
  std::string socket_path(const std::string& replica_id, Incarnation inc) const;
  // The named pipe that the worker writes to.
  std::string output_path(const std::string& replica_id, Incarnation inc) const;
  std::string log_path(const std::string& replica_id, Incarnation inc) const;
  std::string log_prefix(const std::string& replica_id) const { return replica_id + "-"; }
  std::string log_dir() const { return state_dir_ + "/logs"; }
  std::string run_dir() const { return state_dir_ + "/run"; }
  // argv[0] is the path of the program.
  std::vector<std::string> arguments(const SpawnWorker& what) const;
  // The few variables of this process that a worker may need.
  static std::vector<std::string> environment();
  // CPU workers yield to the control plane ("Flow, health, edges").
  static int niceness(const Config::Pool& pool);

 private:
  Config config_;
  std::string program_dir_;
  std::string state_dir_;
};

}  // namespace orch::pool
