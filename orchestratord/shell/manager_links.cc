#include "orchestratord/shell/manager_links.h"

#include <algorithm>
#include <utility>

#include "common/runtime/clock.h"
#include "common/runtime/grpc_calls.h"
#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "orch/v1/pool_manager.grpc.pb.h"
#include "orchestratord/shell/wire.h"

namespace orch::gateway {
namespace {

constexpr Duration kBackoffFirst = Duration::milliseconds(50);
constexpr Duration kBackoffMax = Duration::seconds(2);
// Updates are sent at most every 20 ms; a manager this far behind is not answering.
constexpr std::size_t kOutboxMax = 256;
constexpr Duration kOperationTimeout = Duration::seconds(5);

}  // namespace

struct ManagerLinks::Shared : std::enable_shared_from_this<Shared> {
  using Call = runtime::BidiCall<v1::AttachRequest, v1::AttachEvent>;

  struct Peer {
    std::string endpoint;
    std::shared_ptr<v1::PoolManager::Stub> stub;  // calls under way hold it
    std::shared_ptr<Call> call;
    LinkId link;
    bool greeted = false;
    Duration backoff = kBackoffFirst;
    std::unique_ptr<runtime::LoopTimer> timer;
  };

  Shared(runtime::EventLoop& event_loop, Holder self, std::string url, Post poster, std::function<void(Event)> handler)
      : loop(event_loop),
        holder(self),
        public_url(std::move(url)),
        post(std::move(poster)),
        on_event(std::move(handler)) {}

  void connect(Peer& peer);
  void take(LinkId link, const v1::AttachEvent& message);
  void ended(LinkId link, const std::string& reason);
  Peer* find(LinkId link) {
    const auto found =
        std::find_if(peers.begin(), peers.end(), [&](const auto& peer) { return peer->call && peer->link == link; });
    return found == peers.end() ? nullptr : found->get();
  }

  runtime::EventLoop& loop;
  const Holder holder;
  const std::string public_url;
  const Post post;
  const std::function<void(Event)> on_event;
  std::vector<std::unique_ptr<Peer>> peers;
  std::uint64_t next_link = 1;
  bool closed = false;
};

void ManagerLinks::Shared::connect(Peer& peer) {
  if (closed) return;
  // A channel per attempt: gRPC's own reconnect pacing would add to ours.
  peer.stub = v1::PoolManager::NewStub(runtime::make_channel(peer.endpoint));
  peer.link = LinkId{next_link++};
  peer.greeted = false;
  const std::weak_ptr<Shared> weak = weak_from_this();
  const LinkId link = peer.link;
  peer.call =
      Call::start([stub = peer.stub.get()](auto* context, auto* reactor) { stub->async()->Attach(context, reactor); },
                  {.on_message =
                       [weak, link, to_loop = post](v1::AttachEvent message) {
                         const bool posted = to_loop([weak, link, message = std::move(message)] {
                           if (const auto self = weak.lock()) self->take(link, message);
                         });
                         ORCH_CHECK(posted);
                       },
                   .on_done =
                       [weak, link, to_loop = post](const grpc::Status& status) {
                         const bool posted = to_loop([weak, link, reason = status.error_message()] {
                           if (const auto self = weak.lock()) self->ended(link, reason);
                         });
                         ORCH_CHECK(posted);
                       }},
                  kOutboxMax);
  static_cast<void>(peer.call->send(wire::attach_hello(holder, public_url)));
}

void ManagerLinks::Shared::take(LinkId link, const v1::AttachEvent& message) {
  Peer* peer = find(link);
  if (peer == nullptr) return;
  if (message.has_hello()) {
    auto greeting = wire::read_manager_hello(link, message.hello());
    if (!greeting || greeting->protocol_major != wire::kProtocolMajor || peer->greeted) {
      runtime::log_error("manager_refused", {{"endpoint", peer->endpoint},
                                             {"reason", greeting ? "protocol version" : "malformed hello"},
                                             {"major", message.hello().hello().protocol_major()}});
      peer->call->cancel();
      return;
    }
    peer->greeted = true;
    peer->backoff = kBackoffFirst;
    runtime::log_info("manager_attached", {{"endpoint", peer->endpoint},
                                           {"manager_id", message.hello().manager_id()},
                                           {"replicas", message.hello().replicas_size()}});
    on_event(std::move(greeting->up));
  } else if (message.has_refused()) {
    runtime::log_error("manager_refused", {{"endpoint", peer->endpoint}, {"reason", message.refused().message()}});
  } else if (peer->greeted) {
    if (auto event = wire::read_attach_event(link, message)) on_event(std::move(*event));
  }
  if (Peer* still = find(link)) still->call->read_next();
}

void ManagerLinks::Shared::ended(LinkId link, const std::string& reason) {
  Peer* peer = find(link);
  if (peer == nullptr) return;
  peer->call.reset();
  if (peer->greeted) {
    runtime::log_warn("manager_detached", {{"endpoint", peer->endpoint}, {"reason", reason}});
    on_event(ManagerDown{link});
  }
  if (closed) return;
  peer->timer->set(runtime::now() + peer->backoff);
  peer->backoff = std::min(kBackoffMax, peer->backoff * 2);
}

ManagerLinks::ManagerLinks(runtime::EventLoop& loop, Holder holder, std::string public_url, Post post,
                           std::function<void(Event)> on_event)
    : shared_(std::make_shared<Shared>(loop, holder, std::move(public_url), std::move(post), std::move(on_event))) {}

ManagerLinks::~ManagerLinks() { close(); }

void ManagerLinks::start(const std::vector<std::string>& endpoints) {
  for (const std::string& endpoint : endpoints) {
    auto peer = std::make_unique<Shared::Peer>();
    peer->endpoint = endpoint;
    Shared::Peer* raw = peer.get();
    Shared* shared = shared_.get();
    peer->timer = std::make_unique<runtime::LoopTimer>(shared_->loop, [shared, raw] { shared->connect(*raw); });
    shared_->peers.push_back(std::move(peer));
    shared_->connect(*raw);
  }
}

void ManagerLinks::send(const SendUpdate& update) {
  Shared::Peer* peer = shared_->find(update.link);
  if (peer == nullptr) return;
  if (peer->call->send(wire::attach_update(update)) == runtime::Pushed::full) peer->call->cancel();
}

void ManagerLinks::send(const SendFair& fair) {
  Shared::Peer* peer = shared_->find(fair.link);
  if (peer == nullptr) return;
  if (peer->call->send(wire::attach_fair(fair)) == runtime::Pushed::full) peer->call->cancel();
}

// Its outcome is the replica's state; a refusal is for the log.
void ManagerLinks::send(const OperateReplica& operation) {
  const Shared::Peer* peer = shared_->find(operation.link);
  if (peer == nullptr) return;
  v1::StartOperationRequest request;
  request.set_kind(operation.bring_back ? v1::OPERATION_KIND_UNDRAIN : v1::OPERATION_KIND_DRAIN);
  request.set_replica_id(operation.replica_id);
  request.set_deadline_ms(operation.bring_back ? 0 : static_cast<std::uint64_t>(operation.deadline.ms()));
  const std::string what = operation.bring_back ? "undrain" : "drain";
  runtime::log_info("replica_operation", {{"replica", operation.replica_id}, {"operation", what}});
  runtime::start_unary<v1::StartOperationRequest, v1::StartOperationReply>(
      [stub = peer->stub](grpc::ClientContext* context, const v1::StartOperationRequest* message,
                          v1::StartOperationReply* reply, std::function<void(grpc::Status)> done) {
        stub->async()->StartOperation(context, message, reply, std::move(done));
      },
      std::move(request), kOperationTimeout,
      [what, replica = operation.replica_id](const grpc::Status& status, const v1::StartOperationReply& reply) {
        if (status.ok() && !reply.has_failure()) return;
        const std::string reason = status.ok() ? reply.failure().message() : status.error_message();
        runtime::log_warn("replica_operation_refused", {{"replica", replica}, {"operation", what}, {"reason", reason}});
      });
}

std::size_t ManagerLinks::attached() const {
  return static_cast<std::size_t>(std::count_if(shared_->peers.begin(), shared_->peers.end(),
                                                [](const auto& peer) { return peer->call && peer->greeted; }));
}

void ManagerLinks::close() {
  shared_->closed = true;
  for (const auto& peer : shared_->peers) {
    if (peer->call) peer->call->cancel();
    peer->timer->set(Instant::never());
  }
}

}  // namespace orch::gateway
