#include "orchestratord/shell/worker_calls.h"

#include <map>
#include <utility>

#include "common/runtime/grpc_calls.h"
#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "orch/v1/worker.grpc.pb.h"
#include "orchestratord/shell/wire.h"

namespace orch::gateway {
namespace {

constexpr std::size_t kHoldOutboxMax = 8;  // beats are seconds apart; a worker this far behind is not answering
constexpr Duration kCountTimeout = Duration::seconds(5);

bool is_terminal(const v1::GenerateEvent& message) { return message.has_finished() || message.has_failure(); }

}  // namespace

struct WorkerCalls::Shared : std::enable_shared_from_this<Shared> {
  using Generate = runtime::ReadCall<v1::GenerateRequest, v1::GenerateEvent>;
  using Hold = runtime::BidiCall<v1::HoldBeat, v1::HoldAck>;

  struct Worker {
    std::shared_ptr<v1::Worker::Stub> stub;  // shared with unary calls under way
    std::shared_ptr<Hold> hold;
    std::uint64_t hold_number = 0;
    std::uint64_t beats = 0;
    std::uint32_t calls = 0;
    bool held = false;
  };
  struct Running {
    std::shared_ptr<Generate> call;
    std::string endpoint;
    bool ended = false;  // the core knows its end
  };

  Shared(Holder self, Post poster, std::function<void(Event)> handler)
      : holder(self), post(std::move(poster)), on_event(std::move(handler)) {}

  Worker& worker(const std::string& endpoint) {
    Worker& out = workers[endpoint];
    if (!out.stub) out.stub = v1::Worker::NewStub(runtime::make_channel(endpoint));
    return out;
  }
  void release_if_unused(const std::string& endpoint) {
    const auto found = workers.find(endpoint);
    if (found != workers.end() && found->second.calls == 0 && !found->second.held && !found->second.hold)
      workers.erase(found);
  }
  // Runs `task` on the loop if this object still lives then. The mailbox is sized for one message per stream: Full is a
  // bug.
  void to_loop(std::function<void(Shared&)> task) const {
    const bool posted = post([weak = weak_from_this(), task = std::move(task)] {
      if (const auto self = std::const_pointer_cast<Shared>(weak.lock())) task(*self);
    });
    ORCH_CHECK(posted);
  }
  void take(DispatchId dispatch, const v1::GenerateEvent& message);
  void ended(DispatchId dispatch);
  void hold_ended(const std::string& endpoint, std::uint64_t number);

  const Holder holder;
  const Post post;
  const std::function<void(Event)> on_event;
  std::map<std::string, Worker> workers;
  std::map<DispatchId, Running> running;
  std::uint64_t next_hold = 1;
  bool closed = false;
};

void WorkerCalls::Shared::take(DispatchId dispatch, const v1::GenerateEvent& message) {
  const auto found = running.find(dispatch);
  if (found == running.end() || closed) return;
  const auto call = found->second.call;
  if (auto event = wire::read_generate_event(dispatch, message); event && !found->second.ended) {
    if (is_terminal(message)) found->second.ended = true;
    on_event(std::move(*event));
  }
  call->read_next();
}

void WorkerCalls::Shared::ended(DispatchId dispatch) {
  const auto found = running.find(dispatch);
  if (found == running.end()) return;
  const Running last = std::move(found->second);
  running.erase(found);
  --workers[last.endpoint].calls;
  release_if_unused(last.endpoint);
  if (!last.ended && !closed) on_event(DispatchBroken{dispatch});
}

void WorkerCalls::Shared::hold_ended(const std::string& endpoint, std::uint64_t number) {
  const auto found = workers.find(endpoint);
  if (found == workers.end() || found->second.hold_number != number) return;
  found->second.hold.reset();
  release_if_unused(endpoint);
}

WorkerCalls::WorkerCalls(Holder holder, Post post, std::function<void(Event)> on_event)
    : shared_(std::make_shared<Shared>(holder, std::move(post), std::move(on_event))) {}

WorkerCalls::~WorkerCalls() { close(); }

void WorkerCalls::dispatch(const Dispatch& effect) {
  if (shared_->closed) return;
  Shared::Worker& worker = shared_->worker(effect.endpoint);
  ++worker.calls;
  Shared* shared = shared_.get();
  const std::weak_ptr<Shared> weak = shared_;
  const DispatchId id = effect.dispatch;
  Shared::Running& running = shared->running[id];
  running.endpoint = effect.endpoint;
  running.call = Shared::Generate::start(
      [stub = worker.stub.get()](auto* context, const auto* request, auto* reactor) {
        stub->async()->Generate(context, request, reactor);
      },
      wire::generate_request(effect, shared->holder),
      {.on_message =
           [weak, id](v1::GenerateEvent message) {
             if (const auto self = weak.lock()) {
               self->to_loop([id, message = std::move(message)](Shared& on_loop) { on_loop.take(id, message); });
             }
           },
       .on_done =
           [weak, id](const grpc::Status&) {
             if (const auto self = weak.lock()) self->to_loop([id](Shared& on_loop) { on_loop.ended(id); });
           }});
}

void WorkerCalls::cancel(DispatchId dispatch) {
  const auto found = shared_->running.find(dispatch);
  if (found != shared_->running.end()) found->second.call->cancel();
}

void WorkerCalls::beat(const std::string& endpoint) {
  if (shared_->closed) return;
  Shared::Worker& worker = shared_->worker(endpoint);
  worker.held = true;
  if (!worker.hold) {
    worker.hold_number = shared_->next_hold++;
    const std::weak_ptr<Shared> weak = shared_;
    const std::uint64_t number = worker.hold_number;
    worker.hold = Shared::Hold::start(
        [stub = worker.stub.get()](auto* context, auto* reactor) { stub->async()->Hold(context, reactor); },
        {.on_message =
             [weak, endpoint, number](const v1::HoldAck&) {
               if (const auto self = weak.lock()) {
                 self->to_loop([endpoint, number](Shared& on_loop) {
                   const auto found = on_loop.workers.find(endpoint);
                   if (found != on_loop.workers.end() && found->second.hold && found->second.hold_number == number) {
                     found->second.hold->read_next();
                   }
                 });
               }
             },
         .on_done =
             [weak, endpoint, number](const grpc::Status&) {
               if (const auto self = weak.lock()) {
                 self->to_loop([endpoint, number](Shared& on_loop) { on_loop.hold_ended(endpoint, number); });
               }
             }},
        kHoldOutboxMax);
  }
  v1::HoldBeat beat;
  wire::write_holder(shared_->holder, beat.mutable_holder());
  beat.set_seq(++worker.beats);
  if (worker.hold->send(std::move(beat)) == runtime::Pushed::full) {
    runtime::log_warn("worker_not_reading", {{"endpoint", endpoint}});
    worker.hold->cancel();
  }
}

void WorkerCalls::forget(const std::string& endpoint) {
  const auto found = shared_->workers.find(endpoint);
  if (found == shared_->workers.end()) return;
  found->second.held = false;
  if (found->second.hold) found->second.hold->cancel();
  shared_->release_if_unused(endpoint);
}

void WorkerCalls::count(const CountTokens& effect) {
  if (shared_->closed) return;
  v1::CountTokensRequest request;
  wire::write_prompt(effect.payload->prompt, request.mutable_prompt());
  const std::weak_ptr<Shared> weak = shared_;
  // The worker's own channel: a connection of its own would cost more than the count.
  Shared::Worker& worker = shared_->worker(effect.endpoint);
  ++worker.calls;
  runtime::start_unary<v1::CountTokensRequest, v1::CountTokensReply>(
      [stub = worker.stub](grpc::ClientContext* context, const v1::CountTokensRequest* message,
                           v1::CountTokensReply* reply, std::function<void(grpc::Status)> done) {
        stub->async()->CountTokens(context, message, reply, std::move(done));
      },
      std::move(request), kCountTimeout,
      [weak, endpoint = effect.endpoint, id = effect.request](const grpc::Status& status,
                                                              const v1::CountTokensReply& reply) {
        const std::optional<std::uint32_t> tokens = status.ok() ? std::optional(reply.tokens()) : std::nullopt;
        if (const auto self = weak.lock()) {
          self->to_loop([endpoint, id, tokens](Shared& on_loop) {
            --on_loop.workers[endpoint].calls;
            on_loop.release_if_unused(endpoint);
            if (!on_loop.closed) on_loop.on_event(TokensCounted{id, tokens});
          });
        }
      });
}

void WorkerCalls::close() {
  shared_->closed = true;
  for (auto& [id, each] : shared_->running) each.call->cancel();
  for (auto& [endpoint, worker] : shared_->workers) {
    if (worker.hold) worker.hold->cancel();
  }
}

}  // namespace orch::gateway
