// Purpose: orchestratord as a process: one loop thread that owns the core, and around it the HTTP and gRPC surfaces and
// the links to managers and workers. Effects are executed in order on the loop. Threads: run() is the loop.
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/runtime/key_ring.h"
#include "common/runtime/state_dir.h"
#include "gen/config_orchestratord.h"

namespace orch::gateway {

class Daemon {
 public:
  struct StartFailure {
    int exit_code = 70;
    std::string message;
  };

  static Result<std::unique_ptr<Daemon>, StartFailure> start(const gateway_config::Config& config,
                                                             runtime::StateDir state_dir, runtime::KeyRing keys);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Until SIGTERM or SIGINT was handled and running jobs have ended.
  void run();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace orch::gateway
