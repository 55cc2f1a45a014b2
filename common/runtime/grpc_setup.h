// Process-wide gRPC settings, channels and the server. Only .cc files of shells include this.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/runtime/listen_address.h"
#include "common/runtime/tcp_listener.h"
#include "common/runtime/unix_listener.h"

namespace orch::runtime {

inline constexpr int kGrpcMessageBytesMax = 8 * 1024 * 1024;

// First thing in every main that uses gRPC. Debian's Abseil is built with lock-order detection, whose default on a
// cycle is to abort the process.
void prepare_grpc();

// Last thing in a main that held client channels, after everything of its own is closed and flushed: ends the process
// without destructors. gRPC 1.51 aborts now and then when the last channel goes while a thread of its callback queue
// still leaves.
[[noreturn]] void end_process(int exit_code);

// No proxy from the environment, no shared subchannels (a reconnect is ours to pace), quick keepalive so that a silent
// peer is noticed within a lease's TTL.
std::shared_ptr<grpc::Channel> make_channel(const std::string& target);

// A server on one address. Errors are typed: gRPC itself shares ports by default and would hide one in use.
class GrpcServer {
 public:
  enum class Peers : unsigned char {
    any,
    own_user,  // at a Unix socket only processes of this one's effective user (OC-LEASE-L2); no matter elsewhere
  };
  struct Limits {
    Peers peers = Peers::any;
    std::size_t connections_max = 0;             // at once at a TCP port, further ones are closed; 0: no bound
    Duration idle_max = Duration::seconds(120);  // where they are bounded: of a connection without a call
  };
  static Result<std::unique_ptr<GrpcServer>, ListenError> start(const ListenAddress& address,
                                                                const std::vector<grpc::Service*>& services,
                                                                Limits limits);
  static Result<std::unique_ptr<GrpcServer>, ListenError> start(const ListenAddress& address,
                                                                const std::vector<grpc::Service*>& services) {
    return start(address, services, Limits());
  }
  ~GrpcServer();
  int port() const { return port_; }  // 0 for a unix socket
  // Ends what still runs after `grace`; blocks until all reactors are done.
  void shutdown(Duration grace);

 private:
  GrpcServer() = default;
  std::unique_ptr<grpc::Server> server_;
  // Where others than gRPC accept; they end before the server does.
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<UnixListener> unix_listener_;
  std::unique_ptr<TcpListener> tcp_listener_;
  int port_ = 0;
};

}  // namespace orch::runtime
