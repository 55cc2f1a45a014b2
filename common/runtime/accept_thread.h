// A thread that accepts the connections of one listening socket, for servers whose library would take all of them.
//
// Threads: one of its own; `taken` runs on it. Ownership: the socket stays its caller's and outlives this. Bounds: the
// backlog of the system; nothing is kept of a connection.
#pragma once

#include <functional>
#include <thread>

namespace orch::runtime {

class AcceptThread {
 public:
  // With a connected socket that does not block; it is the callee's from then on.
  using Taken = std::function<void(int fd)>;

  // `socket` listens and does not block.
  AcceptThread(int socket, Taken taken);
  ~AcceptThread();  // takes no more when it returns
  AcceptThread(const AcceptThread&) = delete;
  AcceptThread& operator=(const AcceptThread&) = delete;

 private:
  void accept_all();

  const int socket_;
  const Taken taken_;
  const int stop_;  // an eventfd
  std::thread thread_;
};

}  // namespace orch::runtime
