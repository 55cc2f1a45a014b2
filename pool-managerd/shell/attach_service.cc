#include "pool-managerd/shell/attach_service.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/runtime/clock.h"
#include "common/runtime/grpc_serve.h"
#include "orch/v1/pool_manager.grpc.pb.h"
#include "pool-managerd/shell/wire.h"

namespace orch::pool {
namespace {

using AttachStream = runtime::BidiServe<v1::AttachRequest, v1::AttachEvent>;

constexpr Duration kHelloLimit = Duration::seconds(10);

grpc::Status busy(const std::string& what) { return {grpc::StatusCode::RESOURCE_EXHAUSTED, what}; }

// Where reactions find their own stream, which is only known once it has been started.
class Door {
 public:
  std::shared_ptr<AttachStream> open(AttachStream::Events events) {
    const std::lock_guard lock(mutex_);
    auto stream = AttachStream::start(std::move(events), AttachService::kEventsMax);
    stream_ = stream;
    return stream;
  }
  std::shared_ptr<AttachStream> stream() {
    const std::lock_guard lock(mutex_);
    return stream_.lock();
  }

 private:
  std::mutex mutex_;
  std::weak_ptr<AttachStream> stream_;  // the stream keeps itself alive
};

}  // namespace

struct AttachService::Shared {
  struct Stream {
    std::shared_ptr<AttachStream> rpc;
    Instant opened;
    bool greeted = false;   // said hello: the core knows the link
    bool welcomed = false;  // the core accepted it
  };
  ManagerId manager;
  std::uint64_t boot = 0;
  Post post;       // what comes from an attached orchestrator: Full is a bug, streams are bounded
  Post post_call;  // of anybody: Full is a refusal
  Hooks hooks;
  std::atomic<std::size_t> open{0};  // streams whose on_done has not come
  std::atomic<std::uint64_t> last_link{0};
  // Loop thread alone:
  std::map<LinkId, Stream> streams;
  bool closed = false;

  void opened(LinkId link, const std::shared_ptr<AttachStream>& rpc);
  void received(LinkId link, const std::shared_ptr<AttachStream>& rpc, const v1::AttachRequest& request);
  void hello(LinkId link, Stream& stream, const v1::AttachHello& message);
  void refuse(LinkId link, Outcome outcome, const std::string& message, const std::string& field);
  void ended(LinkId link, const std::shared_ptr<AttachStream>& rpc);
  void write(LinkId link, const v1::AttachEvent& event);
  void write_all(const v1::AttachEvent& event);
};

void AttachService::Shared::opened(LinkId link, const std::shared_ptr<AttachStream>& rpc) {
  if (!rpc) return;
  if (closed) return rpc->finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the manager stops"));
  streams.try_emplace(link, Stream{.rpc = rpc, .opened = runtime::now()});
}

void AttachService::Shared::received(LinkId link, const std::shared_ptr<AttachStream>& rpc,
                                     const v1::AttachRequest& request) {
  if (closed || !rpc) return;
  const auto found = streams.find(link);
  if (found == streams.end()) return;  // refused
  Stream& stream = found->second;
  if (request.kind_case() == v1::AttachRequest::kHello && !stream.greeted) return hello(link, stream, request.hello());
  if (request.kind_case() == v1::AttachRequest::kUpdate && stream.greeted) {
    rpc->read_next();
    hooks.on_event(wire::parse_update(link, request.update()));
    return;
  }
  if (request.kind_case() == v1::AttachRequest::kFair && stream.greeted) {
    rpc->read_next();
    hooks.on_event(FairReported{.link = link, .report = wire::parse_fair(request.fair())});
    return;
  }
  refuse(link, Outcome::INVALID_PARAMS,
         stream.greeted ? "kind: update or fair expected" : "kind: the first message must be hello", "kind");
}

void AttachService::Shared::hello(LinkId link, Stream& stream, const v1::AttachHello& message) {
  const auto opened = wire::parse_attach_hello(link, message);
  if (!opened.ok()) return refuse(link, Outcome::INVALID_PARAMS, opened.error().message, opened.error().field);
  stream.greeted = true;
  stream.rpc->read_next();
  hooks.on_event(*opened);
}

void AttachService::Shared::refuse(LinkId link, Outcome outcome, const std::string& message, const std::string& field) {
  const auto found = streams.find(link);
  if (found == streams.end()) return;
  const std::shared_ptr<AttachStream> rpc = found->second.rpc;
  const bool greeted = found->second.greeted;
  streams.erase(found);
  static_cast<void>(rpc->send(wire::refused_event(outcome, message, field)));
  rpc->finish(grpc::Status(static_cast<grpc::StatusCode>(outcome_row(outcome).grpc_code), message));
  if (greeted) hooks.on_event(AttachClosed{.link = link});
}

void AttachService::Shared::ended(LinkId link, const std::shared_ptr<AttachStream>& rpc) {
  if (rpc) rpc->finish(grpc::Status::OK);
  const auto found = streams.find(link);
  if (found == streams.end()) return;
  const bool greeted = found->second.greeted;
  streams.erase(found);
  if (greeted && !closed) hooks.on_event(AttachClosed{.link = link});
}

void AttachService::Shared::write(LinkId link, const v1::AttachEvent& event) {
  const auto found = streams.find(link);
  if (found == streams.end()) return;
  if (found->second.rpc->send(event) == runtime::Pushed::ok) return;
  // An orchestrator that does not read what it holds would act on old grants.
  const std::shared_ptr<AttachStream> rpc = found->second.rpc;
  streams.erase(found);
  rpc->finish(busy("more than " + std::to_string(kEventsMax) + " unread events"));
  // Not from inside the step that wrote.
  const bool posted = post([this, link] {
    if (!closed) hooks.on_event(AttachClosed{.link = link});
  });
  ORCH_CHECK(posted);
}

void AttachService::Shared::write_all(const v1::AttachEvent& event) {
  std::vector<LinkId> links;  // a full stream is erased while we write
  for (const auto& [link, stream] : streams) {
    if (stream.welcomed) links.push_back(link);
  }
  for (const LinkId link : links) write(link, event);
}

namespace {

void write_failure(Outcome outcome, const std::string& message, const std::string& field, v1::Failure* out) {
  out->set_code(std::string(outcome_row(outcome).code));
  out->set_message(message);
  out->set_field(field);
}

}  // namespace

class AttachService::Service final : public v1::PoolManager::CallbackService {
 public:
  explicit Service(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  grpc::ServerBidiReactor<v1::AttachRequest, v1::AttachEvent>* Attach(grpc::CallbackServerContext*) override {
    const std::shared_ptr<Shared> shared = shared_;
    if (shared->open.fetch_add(1) >= kStreamsMax) return refused_stream(shared);
    const LinkId link{shared->last_link.fetch_add(1) + 1};
    const auto door = std::make_shared<Door>();
    AttachStream::Events events;
    events.on_message = [shared, link, door](v1::AttachRequest request) {
      const bool posted = shared->post(
          [shared, link, door, request = std::move(request)] { shared->received(link, door->stream(), request); });
      ORCH_CHECK(posted);
    };
    events.on_end = [shared, link, door] {
      const bool posted = shared->post([shared, link, door] { shared->ended(link, door->stream()); });
      ORCH_CHECK(posted);
    };
    events.on_done = [shared] { shared->open.fetch_sub(1); };
    const std::shared_ptr<AttachStream> stream = door->open(std::move(events));
    const bool posted = shared->post([shared, link, door] { shared->opened(link, door->stream()); });
    ORCH_CHECK(posted);
    return stream.get();
  }

  grpc::ServerUnaryReactor* ListReplicas(grpc::CallbackServerContext* context, const v1::ListReplicasRequest*,
                                         v1::ListReplicasReply* reply) override {
    auto* reactor = context->DefaultReactor();
    const bool posted = shared_->post_call([shared = shared_, reactor, reply] {
      if (shared->closed) return reactor->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the manager stops"));
      for (const ReplicaView& view : shared->hooks.replicas()) wire::write_replica(view, reply->add_replicas());
      reactor->Finish(grpc::Status::OK);
    });
    if (!posted) reactor->Finish(busy("too many calls wait"));
    return reactor;
  }

  grpc::ServerUnaryReactor* StartOperation(grpc::CallbackServerContext* context,
                                           const v1::StartOperationRequest* request,
                                           v1::StartOperationReply* reply) override {
    auto* reactor = context->DefaultReactor();
    const auto wanted = wire::parse_operation(*request);
    if (!wanted.ok()) {
      write_failure(Outcome::INVALID_PARAMS, wanted.error().message, wanted.error().field, reply->mutable_failure());
      reactor->Finish(grpc::Status::OK);
      return reactor;
    }
    const bool posted = shared_->post_call([shared = shared_, reactor, reply, operation = *wanted] {
      if (shared->closed) return reactor->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the manager stops"));
      shared->hooks.operate(operation, [reactor, reply](const OperationReply& answer) {  // before operate() returns
        if (answer.operation) {
          wire::write_operation(*answer.operation, reply->mutable_operation());
        } else {
          write_failure(answer.outcome, answer.message, answer.field, reply->mutable_failure());
        }
        reactor->Finish(grpc::Status::OK);
      });
    });
    if (!posted) reactor->Finish(busy("too many calls wait"));
    return reactor;
  }

  grpc::ServerUnaryReactor* GetOperation(grpc::CallbackServerContext* context, const v1::GetOperationRequest* request,
                                         v1::StartOperationReply* reply) override {
    auto* reactor = context->DefaultReactor();
    const bool posted = shared_->post_call([shared = shared_, reactor, reply, text = request->operation_id()] {
      if (shared->closed) return reactor->Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the manager stops"));
      const auto id = parse_operation_id(text);
      const std::optional<Operation> found = id ? shared->hooks.operation(*id) : std::nullopt;
      if (found) {
        wire::write_operation(*found, reply->mutable_operation());
      } else {
        write_failure(Outcome::NOT_FOUND, "operation_id: no operation '" + text + "'", "operation_id",
                      reply->mutable_failure());
      }
      reactor->Finish(grpc::Status::OK);
    });
    if (!posted) reactor->Finish(busy("too many calls wait"));
    return reactor;
  }

 private:
  // Without the loop: a flood of streams could fill the orchestrators' mailbox (OC-POOL-3057).
  static AttachStream* refused_stream(const std::shared_ptr<Shared>& shared) {
    AttachStream::Events events;
    events.on_message = [](const v1::AttachRequest&) {};
    events.on_done = [shared] { shared->open.fetch_sub(1); };
    const std::shared_ptr<AttachStream> stream = AttachStream::start(std::move(events), kEventsMax);
    stream->finish(busy("more than " + std::to_string(kStreamsMax) + " attach streams"));
    return stream.get();
  }

  std::shared_ptr<Shared> shared_;
};

AttachService::AttachService(ManagerId manager, std::uint64_t boot, Post post, Post post_call, Hooks hooks)
    : shared_(std::make_shared<Shared>()), service_(std::make_unique<Service>(shared_)) {
  shared_->manager = manager;
  shared_->boot = boot;
  shared_->post = std::move(post);
  shared_->post_call = std::move(post_call);
  shared_->hooks = std::move(hooks);
}
AttachService::~AttachService() = default;

grpc::Service& AttachService::grpc_service() { return *service_; }
std::size_t AttachService::streams() const { return shared_->streams.size(); }

void AttachService::send(const AttachWelcome& effect) {
  const auto found = shared_->streams.find(effect.link);
  if (found == shared_->streams.end()) return;
  found->second.welcomed = true;
  shared_->write(effect.link, wire::manager_hello(shared_->manager, shared_->boot, effect.replicas));
}
void AttachService::send(const AttachRefused& effect) {
  const auto found = shared_->streams.find(effect.link);
  if (found != shared_->streams.end()) found->second.greeted = false;  // the core has forgotten the link
  shared_->refuse(effect.link, effect.outcome, effect.message, effect.field);
}
void AttachService::send(const ReplicaChanged& effect) { shared_->write_all(wire::replica_event(effect.replica)); }
void AttachService::send(const ReplicaLoaded& effect) { shared_->write_all(wire::load_event(effect)); }
void AttachService::send(const ReplicaGone& effect) { shared_->write_all(wire::gone_event(effect)); }
void AttachService::send(const SendGrant& effect) { shared_->write(effect.link, wire::grant_event(effect)); }
void AttachService::send(const SendOthers& effect) { shared_->write(effect.link, wire::others_event(effect)); }
void AttachService::send(const SendGateways& effect) { shared_->write(effect.link, wire::gateways_event(effect)); }
void AttachService::send(const SendEarlierOver& effect) {
  shared_->write(effect.link, wire::earlier_over_event(effect));
}
void AttachService::send(const SendRevoke& effect) { shared_->write(effect.link, wire::revoke_event(effect)); }

void AttachService::refuse_silent(Instant now) {
  std::vector<LinkId> silent;
  for (const auto& [link, stream] : shared_->streams) {
    if (!stream.greeted && now >= stream.opened + kHelloLimit) silent.push_back(link);
  }
  for (const LinkId link : silent) {
    shared_->refuse(link, Outcome::INVALID_PARAMS, "hello: none within " + std::to_string(kHelloLimit.ms()) + " ms",
                    "hello");
  }
}

void AttachService::close() {
  shared_->closed = true;
  for (auto& [link, stream] : shared_->streams) {
    stream.rpc->finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the manager stops"));
  }
  shared_->streams.clear();
}

}  // namespace orch::pool
