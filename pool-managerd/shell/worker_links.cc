#include "pool-managerd/shell/worker_links.h"

#include <utility>

#include "common/base/check.h"
#include "common/runtime/grpc_calls.h"
#include "common/runtime/grpc_setup.h"
#include "orch/v1/worker.grpc.pb.h"
#include "pool-managerd/shell/wire.h"

namespace orch::pool {
namespace {

// One table in flight, one drain, one self-check: more waiting messages mean a worker that does not read.
constexpr std::size_t kOutboxMax = 16;
constexpr Duration kInfoTimeout = Duration::seconds(2);

using ControlCall = runtime::BidiCall<v1::ControlRequest, v1::ControlReport>;

}  // namespace

struct WorkerLinks::Link {
  Secret control_secret{};
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Worker::Stub> stub;
  std::shared_ptr<ControlCall> control;
  std::uint64_t stream = 0;  // number of the current Control stream; news of earlier ones is dropped
};

// Lives until the last late reaction has been handled; `links` is touched on the loop thread alone.
struct WorkerLinks::Shared {
  ManagerId manager;
  Post post;
  std::function<void(Event)> on_event;
  std::map<Incarnation, Link> links;
  bool closed = false;

  Link* find(Incarnation inc) {
    const auto found = links.find(inc);
    return found == links.end() ? nullptr : &found->second;
  }
  // The current stream of that incarnation, or nothing.
  Link* current(Incarnation inc, std::uint64_t stream) {
    Link* link = closed ? nullptr : find(inc);
    return link != nullptr && link->control && link->stream == stream ? link : nullptr;
  }
  void broken(Incarnation inc) {
    find(inc)->control.reset();
    on_event(ControlBroken{.inc = inc});
  }
  void send(Incarnation inc, v1::ControlRequest request) {
    Link* link = find(inc);
    if (link == nullptr || !link->control) return;
    if (link->control->send(std::move(request)) == runtime::Pushed::ok) return;
    link->control->cancel();
  }
};

WorkerLinks::WorkerLinks(ManagerId manager, Post post, std::function<void(Event)> on_event)
    : shared_(std::make_shared<Shared>()) {
  shared_->manager = manager;
  shared_->post = std::move(post);
  shared_->on_event = std::move(on_event);
}

WorkerLinks::~WorkerLinks() {
  shared_->closed = true;
  for (auto& [inc, link] : shared_->links) {
    if (link.control) link.control->cancel();
  }
  shared_->links.clear();
}

void WorkerLinks::open(Incarnation inc, const std::string& endpoint, const Secret& control_secret) {
  Link link;
  link.control_secret = control_secret;
  link.channel = runtime::make_channel(endpoint);
  link.stub = v1::Worker::NewStub(link.channel);
  shared_->links[inc] = std::move(link);
}

void WorkerLinks::close(Incarnation inc) {
  Link* link = shared_->find(inc);
  if (link == nullptr) return;
  if (link->control) link->control->cancel();
  shared_->links.erase(inc);
}

void WorkerLinks::connect(Incarnation inc, bool wants_table) {
  Link* link = shared_->find(inc);
  if (link == nullptr) return;
  if (link->control) link->control->cancel();
  const std::uint64_t stream = ++link->stream;
  const std::weak_ptr<Shared> weak = shared_;
  ControlCall::Events events;
  events.on_message = [weak, inc, stream, post = shared_->post](v1::ControlReport message) {
    WorkerReport report = wire::parse_report(inc, message);
    // At most one message of a stream waits in the mailbox: the next read is asked for on the loop ("Flow").
    const bool posted = post([weak, inc, stream, report = std::move(report)] {
      const auto shared = weak.lock();
      Link* current = shared ? shared->current(inc, stream) : nullptr;
      if (current == nullptr) return;
      current->control->read_next();
      shared->on_event(report);
    });
    ORCH_CHECK(posted);
  };
  events.on_done = [weak, inc, stream, post = shared_->post](const grpc::Status&) {
    const bool posted = post([weak, inc, stream] {
      const auto shared = weak.lock();
      if (shared && shared->current(inc, stream) != nullptr) shared->broken(inc);
    });
    ORCH_CHECK(posted);
  };
  v1::Worker::Stub* stub = link->stub.get();
  link->control = ControlCall::start(
      [stub](grpc::ClientContext* context, grpc::ClientBidiReactor<v1::ControlRequest, v1::ControlReport>* reactor) {
        stub->async()->Control(context, reactor);
      },
      std::move(events), kOutboxMax);
  shared_->send(inc, wire::control_hello(shared_->manager, inc, link->control_secret, wants_table));
}

void WorkerLinks::query_info(Incarnation inc) {
  Link* link = shared_->find(inc);
  if (link == nullptr) return;
  v1::Worker::Stub* stub = link->stub.get();
  const std::weak_ptr<Shared> weak = shared_;
  runtime::start_unary<v1::GetInfoRequest, v1::WorkerInfo>(
      [stub](grpc::ClientContext* context, const v1::GetInfoRequest* request, v1::WorkerInfo* reply,
             std::function<void(grpc::Status)> done) {
        stub->async()->GetInfo(context, request, reply, std::move(done));
      },
      v1::GetInfoRequest(), kInfoTimeout,
      [weak, inc, post = shared_->post](const grpc::Status& status, v1::WorkerInfo reply) {
        Event event = InfoFailed{.inc = inc};
        if (status.ok()) event = InfoArrived{.inc = inc, .facts = wire::parse_info(reply)};
        const bool posted = post([weak, event = std::move(event)] {
          const auto shared = weak.lock();
          if (shared && !shared->closed) shared->on_event(event);
        });
        ORCH_CHECK(posted);
      });
}

void WorkerLinks::send(const SendTable& effect) { shared_->send(effect.inc, wire::table_request(effect.table)); }

void WorkerLinks::send(const SendSelfCheck& effect) {
  v1::ControlRequest request;
  request.mutable_self_check()->set_id(effect.id);
  shared_->send(effect.inc, std::move(request));
}

void WorkerLinks::send(const SendDrain& effect) {
  v1::ControlRequest request;
  request.mutable_drain()->set_deadline_ms(static_cast<std::uint64_t>(effect.deadline.ms()));
  shared_->send(effect.inc, std::move(request));
}

}  // namespace orch::pool
