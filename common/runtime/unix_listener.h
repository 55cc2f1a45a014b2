// A Unix socket that takes the connections of one user only: who connected is asked of the kernel (SO_PEERCRED), which
// gRPC's own listener does not do (OC-LEASE-L2). The others are closed unread.
//
// Threads: that of its AcceptThread. Bounds: the backlog of the system; nothing is kept of a connection.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/runtime/accept_thread.h"
#include "common/runtime/listen_address.h"

namespace orch::runtime {

class UnixListener {
 public:
  using Taken = AcceptThread::Taken;

  // Binds `path`, which must not exist, with mode 0600, and takes connections of processes whose effective user is
  // `user`.
  static Result<std::unique_ptr<UnixListener>, ListenError> start(const std::string& path, uid_t user, Taken taken);
  ~UnixListener();  // takes no more when it returns, and removes the path
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  std::uint64_t refused() const { return refused_.load(); }

 private:
  UnixListener(std::string path, uid_t user, Taken taken);
  void judge(int fd);

  std::string path_;
  uid_t user_;
  Taken taken_;
  int socket_ = -1;
  std::atomic<std::uint64_t> refused_{0};
  std::optional<AcceptThread> thread_;
};

}  // namespace orch::runtime
