// Purpose: the gRPC service PoolManager: Attach streams become links of the core, unary calls become events or
// look-ups. Threads: service methods run on gRPC threads and only push to the loop through `post`; everything else loop
// thread. Bounds: kStreamsMax open Attach streams, kEventsMax unsent events per stream; a stream beyond is ended.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "pool-managerd/core/effects.h"
#include "pool-managerd/core/events.h"

namespace grpc {
class Service;
}

namespace orch::pool {

class AttachService {
 public:
  using Post = std::function<bool(std::function<void()>)>;
  using Replied = std::function<void(const OperationReply&)>;
  struct Hooks {  // all on the loop
    std::function<void(Event)> on_event;
    std::function<std::vector<ReplicaView>()> replicas;
    std::function<void(StartOperation, Replied)> operate;
    std::function<std::optional<Operation>(OperationId)> operation;
  };
  // `post` takes what orchestrators send and must not be full; `post_call` takes unary calls, which it may refuse.
  AttachService(ManagerId manager, std::uint64_t boot, Post post, Post post_call, Hooks hooks);
  ~AttachService();
  AttachService(const AttachService&) = delete;
  AttachService& operator=(const AttachService&) = delete;

  grpc::Service& grpc_service();

  void send(const AttachWelcome& effect);
  void send(const AttachRefused& effect);
  void send(const ReplicaChanged& effect);
  void send(const ReplicaLoaded& effect);
  void send(const ReplicaGone& effect);
  void send(const SendGrant& effect);
  void send(const SendRevoke& effect);
  void send(const SendOthers& effect);
  void send(const SendGateways& effect);
  void send(const SendEarlierOver& effect);
  // Ends every stream; nothing is served afterwards.
  // Streams that have not said hello within kHelloLimit end.
  void refuse_silent(Instant now);
  void close();
  std::size_t streams() const;

  static constexpr std::size_t kStreamsMax = 256;
  static constexpr std::size_t kEventsMax = 4096;

 private:
  class Service;
  struct Shared;
  std::shared_ptr<Shared> shared_;
  std::unique_ptr<Service> service_;
};

}  // namespace orch::pool
