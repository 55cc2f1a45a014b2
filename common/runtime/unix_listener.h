// A Unix socket that takes the connections of one user only: who connected is asked of the kernel (SO_PEERCRED), which
// gRPC's own listener does not do (OC-LEASE-L2). The others are closed unread.
//
// Threads: one of its own, which accepts. Bounds: the backlog of the system; nothing is kept of a connection.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "common/base/result.h"
#include "common/runtime/listen_address.h"

namespace orch::runtime {

class UnixListener {
 public:
  // On the listener's thread, with a connected socket that does not block; it is the callee's from then on.
  using Taken = std::function<void(int fd)>;

  // Binds `path`, which must not exist, with mode 0600, and takes connections of processes whose effective user is
  // `user`.
  static Result<std::unique_ptr<UnixListener>, ListenError> start(const std::string& path, uid_t user, Taken taken);
  ~UnixListener();  // takes no more when it returns, and removes the path
  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;

  std::uint64_t refused() const { return refused_.load(); }

 private:
  UnixListener(std::string path, uid_t user, Taken taken);
  void accept_all();
  void judge(int fd);

  std::string path_;
  uid_t user_;
  Taken taken_;
  int socket_ = -1;
  int stop_ = -1;  // an eventfd
  std::atomic<std::uint64_t> refused_{0};
  std::thread thread_;
};

}  // namespace orch::runtime
