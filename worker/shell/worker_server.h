// The gRPC Worker service (proto/orch/v1/worker.proto) of one process, over whatever generates: workerd and adapterd
// differ only in the GenerationEngine they pass in.
//
// Threads: gRPC's own, one timer thread, one lifeline thread, one thread for CountTokens. No gRPC thread ever waits for
// the engine. The engine must outlive the server; after stop() returns the server calls it no more, but sinks of jobs
// that it has not ended yet stay valid for as long as the engine keeps them.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/base/time.h"
#include "worker/core/engine_port.h"

namespace orch::worker {

// Why a process cannot serve; exit codes in the style of sysexits.h.
struct StartFailure {
  int exit_code = 70;
  std::string message;
};

inline constexpr int kExitUsage = 64;
inline constexpr int kExitAddress = 74;  // port or socket in use, or the socket's folder is open to others

class WorkerServer {
 public:
  struct Options {
    std::string listen;  // "unix:/path" (folder of mode 0700, own user alone) or a loopback "host:port"; port 0: any
    std::optional<int>
        lifeline_fd;  // read end of the manager's pipe: first line 32 hex digits, EOF = the manager is gone
    std::size_t outbox_bytes_max = 256 * 1024;  // per job; a reader further behind ends in SLOW_CONSUMER
    Duration self_check_limit = Duration::seconds(60);
    // L8: how long a worker lives on without its manager. Jobs run on meanwhile; a control stream of the same manager's
    // next start ends the clock.
    Duration orphan_grace{};
    // Called once when it is over, on the timer thread, where stop() would wait for itself; empty: cancel every job and
    // leave the process with 0 within 200 ms.
    std::function<void()> lifeline_lost{};
  };

  // Binds, and reads the control secret from the lifeline (waits at most 5 s for it). Without a lifeline the worker has
  // no manager and accepts no dispatch. The engine may still be loading: GetInfo says so.
  static Result<std::unique_ptr<WorkerServer>, StartFailure> start(GenerationEngine& engine, Options options);

  ~WorkerServer();  // stop()
  WorkerServer(const WorkerServer&) = delete;
  WorkerServer& operator=(const WorkerServer&) = delete;

  // What a client connects to: as in `listen`, with the real port.
  const std::string& address() const;

  void wait();  // until stop() was called
  void stop();  // cancels every job, ends every stream, at most 2 s; from any thread, any number of times

 private:
  struct Parts;
  explicit WorkerServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

// For main(): block_stop_signals() before any thread exists, then serve() until SIGTERM or SIGINT. Returns the exit
// code; a start failure is printed on stderr.
void block_stop_signals();
int serve(GenerationEngine& engine, WorkerServer::Options options);

}  // namespace orch::worker
