// A TCP port whose open connections are bounded, for gRPC, which bounds none of its own (OC-PLAT-1002). One that comes
// when as many are open is closed unread.
//
// Who takes a connection owns and closes it, and does not say when. A socket has an inode of its own for as long as it
// is open, so that a connection counts until its descriptor is closed or stands for something else; that is looked at
// when the bound is reached.
//
// Threads: that of its AcceptThread, which alone touches what is counted. Bounds: connections_max descriptors and the
// backlog of the system. Complexity: O(connections_max) system calls for a connection that finds the bound reached.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>

#include "common/base/result.h"
#include "common/runtime/accept_thread.h"
#include "common/runtime/listen_address.h"

namespace orch::runtime {

class TcpListener {
 public:
  using Taken = AcceptThread::Taken;

  // `address` is one of TCP.
  static Result<std::unique_ptr<TcpListener>, ListenError> start(const ListenAddress& address,
                                                                 std::size_t connections_max, Taken taken);
  ~TcpListener();  // takes no more when it returns
  TcpListener(const TcpListener&) = delete;
  TcpListener& operator=(const TcpListener&) = delete;

  std::uint16_t port() const { return port_; }
  std::uint64_t refused() const { return refused_.load(); }

 private:
  TcpListener(int socket, std::size_t connections_max, Taken taken);
  void judge(int fd);
  void forget_closed();

  const int socket_;
  const std::size_t connections_max_;
  const Taken taken_;
  std::uint16_t port_ = 0;
  std::map<int, ino_t> open_;  // descriptors, as they were taken
  std::atomic<std::uint64_t> refused_{0};
  std::optional<AcceptThread> thread_;
};

}  // namespace orch::runtime
