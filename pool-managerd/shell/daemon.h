// Purpose: pool-managerd as a process: one loop thread that owns the core, and around it the supervisor, the worker
// links, the gRPC service and the admin server. Effects are executed in order on the loop. Threads: run() is the loop.
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/runtime/state_dir.h"
#include "gen/config_pool_managerd.h"

namespace orch::pool {

class Daemon {
 public:
  struct StartFailure {
    int exit_code = 70;
    std::string message;
  };

  // `program_dir`: where workerd and adapterd lie. Nothing is spawned before run().
  static Result<std::unique_ptr<Daemon>, StartFailure> start(const Config& config, runtime::StateDir state_dir,
                                                             std::string program_dir);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Until SIGTERM or SIGINT was handled and every worker has been reaped.
  void run();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace orch::pool
