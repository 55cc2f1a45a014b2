#include "common/runtime/grpc_setup.h"

#include <absl/synchronization/mutex.h>
#include <grpcpp/server_posix.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace orch::runtime {

void end_process(int exit_code) {
  std::fflush(nullptr);
  std::_Exit(exit_code);
}

void prepare_grpc() { absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); }

std::shared_ptr<grpc::Channel> make_channel(const std::string& target) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetMaxReceiveMessageSize(kGrpcMessageBytesMax);
  arguments.SetMaxSendMessageSize(kGrpcMessageBytesMax);
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments);
}

Result<std::unique_ptr<GrpcServer>, ListenError> GrpcServer::start(const ListenAddress& address,
                                                                   const std::vector<grpc::Service*>& services,
                                                                   Limits limits) {
  const bool judged = address.is_unix && limits.peers == Peers::own_user;
  const bool bounded = !address.is_unix && limits.connections_max > 0;
  std::unique_ptr<GrpcServer> out(new GrpcServer());
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  builder.SetMaxReceiveMessageSize(kGrpcMessageBytesMax);
  builder.SetMaxSendMessageSize(kGrpcMessageBytesMax);
  int port = -1;
  if (bounded) {
    // A place is not held by who has nothing to ask, nor by who is not there any more (OC-PLAT-1002).
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, static_cast<int>(limits.idle_max.ms()));
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
    using From = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
    out->acceptor_ =
        builder.experimental().AddExternalConnectionAcceptor(From::FROM_FD, grpc::InsecureServerCredentials());
  } else if (!judged) {
    builder.AddListeningPort(address.grpc_target(), grpc::InsecureServerCredentials(),
                             address.is_unix ? nullptr : &port);
  }
  for (grpc::Service* service : services) builder.RegisterService(service);
  out->server_ = builder.BuildAndStart();
  if (out->server_ == nullptr || (!address.is_unix && !bounded && port <= 0)) {
    return Err{ListenError{ListenError::Kind::in_use,
                           "gRPC cannot listen on " + address.grpc_target() + " (in use, or not permitted)"}};
  }
  out->port_ = address.is_unix ? 0 : port;
  if (judged) {
    grpc::Server* const server = out->server_.get();
    ORCH_TRY(listener, UnixListener::start(address.path, ::geteuid(),
                                           [server](int fd) { grpc::AddInsecureChannelFromFd(server, fd); }));
    out->unix_listener_ = std::move(listener);
  }
  if (bounded) {
    auto* const acceptor = out->acceptor_.get();
    ORCH_TRY(listener, TcpListener::start(address, limits.connections_max, [acceptor](int fd) {
               grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
               connection.fd = fd;
               acceptor->HandleNewConnection(&connection);
             }));
    out->port_ = listener->port();
    out->tcp_listener_ = std::move(listener);
  }
  return out;
}

GrpcServer::~GrpcServer() {
  if (server_ != nullptr) shutdown(Duration{});
}

void GrpcServer::shutdown(Duration grace) {
  unix_listener_.reset();
  tcp_listener_.reset();
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::nanoseconds(grace.ns));
  server_->Wait();
  server_.reset();
}

}  // namespace orch::runtime
