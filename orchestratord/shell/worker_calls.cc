#include "orchestratord/shell/worker_calls.h"

#include <map>
#include <utility>

#include "common/runtime/grpc_calls.h"
#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "orch/v1/worker.grpc.pb.h"
#include "orchestratord/shell/wire.h"
#include "orchestratord/shell/worker_stream.h"

namespace orch::gateway {
namespace {

// Messages that wait behind a write become one where they are small. A large one is a dispatch, which takes a slot.
constexpr std::size_t kOutboxMax = 1024;
constexpr Duration kCountTimeout = Duration::seconds(5);

}  // namespace

struct WorkerCalls::Shared : std::enable_shared_from_this<Shared> {
  using Serve = runtime::BidiCall<v1::ServeRequest, v1::ServeReply>;

  struct Worker {
    std::shared_ptr<v1::Worker::Stub> stub;  // shared with unary calls under way
    std::shared_ptr<Serve> call;             // with stream, or neither
    std::unique_ptr<WorkerStream> stream;
    std::uint64_t stream_number = 0;
    std::uint64_t beats = 0;
    std::uint32_t counts = 0;
    bool held = false;
    bool flush_due = false;
  };

  Shared(Holder self, Post poster, OnEvents handler)
      : holder(self), post(std::move(poster)), on_events(std::move(handler)) {}

  Worker& worker(const std::string& endpoint) {
    Worker& out = workers[endpoint];
    if (!out.stub) out.stub = v1::Worker::NewStub(runtime::make_channel(endpoint));
    return out;
  }
  void release_if_unused(const std::string& endpoint) {
    const auto found = workers.find(endpoint);
    if (found != workers.end() && found->second.counts == 0 && !found->second.held && !found->second.call)
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
  WorkerStream& open(const std::string& endpoint, Worker& worker);
  Worker* find(const std::string& endpoint, std::uint64_t number);
  void flush_soon(const std::string& endpoint, Worker& worker);
  void flush(const std::string& endpoint);
  void take(const std::string& endpoint, std::uint64_t number, v1::ServeReply&& reply);
  void drop(const std::string& endpoint, Worker& worker);

  const Holder holder;
  const Post post;
  const OnEvents on_events;
  std::map<std::string, Worker> workers;
  std::map<DispatchId, std::string> endpoints;  // of dispatches that have had no terminal
  std::uint64_t next_stream = 1;
  bool closed = false;
};

WorkerStream& WorkerCalls::Shared::open(const std::string& endpoint, Worker& worker) {
  if (worker.call) return *worker.stream;
  const std::uint64_t number = next_stream++;
  const std::weak_ptr<Shared> weak = weak_from_this();
  worker.stream_number = number;
  worker.stream = std::make_unique<WorkerStream>(holder);
  worker.call =
      Serve::start([stub = worker.stub.get()](auto* context, auto* reactor) { stub->async()->Serve(context, reactor); },
                   {.on_message =
                        [weak, endpoint, number](v1::ServeReply message) {
                          const auto self = weak.lock();
                          if (!self) return;
                          // A task must be copyable, a reply should not be copied.
                          auto reply = std::make_shared<v1::ServeReply>(std::move(message));
                          self->to_loop([endpoint, number, reply = std::move(reply)](Shared& on_loop) {
                            on_loop.take(endpoint, number, std::move(*reply));
                          });
                        },
                    .on_done =
                        [weak, endpoint, number](const grpc::Status&) {
                          const auto self = weak.lock();
                          if (!self) return;
                          self->to_loop([endpoint, number](Shared& on_loop) {
                            if (Worker* const ended = on_loop.find(endpoint, number)) on_loop.drop(endpoint, *ended);
                          });
                        },
                    .merge = &WorkerStream::merge},
                   kOutboxMax);
  return *worker.stream;
}

// Null: the stream of that number is not the worker's any more.
WorkerCalls::Shared::Worker* WorkerCalls::Shared::find(const std::string& endpoint, std::uint64_t number) {
  const auto found = workers.find(endpoint);
  if (found == workers.end() || !found->second.call || found->second.stream_number != number) return nullptr;
  return &found->second;
}

// What one turn of the loop has to say leaves as one message.
void WorkerCalls::Shared::flush_soon(const std::string& endpoint, Worker& worker) {
  if (worker.stream->enough()) return flush(endpoint);
  if (std::exchange(worker.flush_due, true)) return;
  to_loop([endpoint](Shared& on_loop) { on_loop.flush(endpoint); });
}

void WorkerCalls::Shared::flush(const std::string& endpoint) {
  const auto found = workers.find(endpoint);
  if (found == workers.end()) return;
  Worker& worker = found->second;
  worker.flush_due = false;
  if (!worker.call) return;
  auto request = worker.stream->take_request();
  if (!request || worker.call->send(std::move(*request)) == runtime::Pushed::ok) return;
  runtime::log_warn("worker_not_reading", {{"endpoint", endpoint}});
  drop(endpoint, worker);
}

void WorkerCalls::Shared::take(const std::string& endpoint, std::uint64_t number, v1::ServeReply&& reply) {
  Worker* const worker = find(endpoint, number);
  if (worker == nullptr || closed) return;
  std::vector<Event> events;
  events.reserve(static_cast<std::size_t>(reply.events_size()));
  const auto taken = worker->stream->take(std::move(reply), events);
  for (const Event& event : events) {
    if (const auto* finished = std::get_if<DispatchFinished>(&event)) endpoints.erase(finished->dispatch);
    if (const auto* failed = std::get_if<DispatchFailed>(&event)) endpoints.erase(failed->dispatch);
  }
  if (!events.empty()) on_events(std::move(events));
  Worker* const still = find(endpoint, number);  // what followed from the events may have ended it
  if (still == nullptr) return;
  if (taken.ok()) return still->call->read_next();
  runtime::log_warn("worker_broke_the_stream", {{"endpoint", endpoint}, {"message", taken.error()}});
  drop(endpoint, *still);
}

// The stream is over, by whichever side: of what was open nothing is known (M1).
void WorkerCalls::Shared::drop(const std::string& endpoint, Worker& worker) {
  const auto call = std::exchange(worker.call, nullptr);
  const auto stream = std::move(worker.stream);
  call->cancel();
  std::vector<Event> events;
  for (const DispatchId& dispatch : stream->take_open()) {
    endpoints.erase(dispatch);
    events.emplace_back(DispatchBroken{dispatch});
  }
  release_if_unused(endpoint);
  if (!events.empty() && !closed) on_events(std::move(events));
}

WorkerCalls::WorkerCalls(Holder holder, Post post, OnEvents on_events)
    : shared_(std::make_shared<Shared>(holder, std::move(post), std::move(on_events))) {}

WorkerCalls::~WorkerCalls() { close(); }

void WorkerCalls::dispatch(const Dispatch& effect) {
  if (shared_->closed) return;
  Shared::Worker& worker = shared_->worker(effect.endpoint);
  WorkerStream& stream = shared_->open(effect.endpoint, worker);
  stream.dispatch(effect);
  shared_->endpoints[effect.dispatch] = effect.endpoint;
  if (stream.overfull()) {
    runtime::log_warn("worker_broke_the_stream", {{"endpoint", effect.endpoint}, {"message", "it ends no jobs"}});
    return shared_->drop(effect.endpoint, worker);
  }
  shared_->flush_soon(effect.endpoint, worker);
}

void WorkerCalls::cancel(DispatchId dispatch) {
  const auto endpoint = shared_->endpoints.find(dispatch);
  if (endpoint == shared_->endpoints.end() || shared_->closed) return;
  Shared::Worker& worker = shared_->workers.at(endpoint->second);
  worker.stream->cancel(dispatch);
  shared_->flush_soon(endpoint->second, worker);
}

void WorkerCalls::beat(const std::string& endpoint) {
  if (shared_->closed) return;
  Shared::Worker& worker = shared_->worker(endpoint);
  worker.held = true;
  shared_->open(endpoint, worker).beat(++worker.beats);
  shared_->flush_soon(endpoint, worker);
}

void WorkerCalls::forget(const std::string& endpoint) {
  const auto found = shared_->workers.find(endpoint);
  if (found == shared_->workers.end()) return;
  found->second.held = false;
  if (found->second.call) return shared_->drop(endpoint, found->second);
  shared_->release_if_unused(endpoint);
}

void WorkerCalls::count(const CountTokens& effect) {
  if (shared_->closed) return;
  v1::CountTokensRequest request;
  wire::write_prompt(effect.payload->prompt, request.mutable_prompt());
  const std::weak_ptr<Shared> weak = shared_;
  // The worker's own channel: a connection of its own would cost more than the count.
  Shared::Worker& worker = shared_->worker(effect.endpoint);
  ++worker.counts;
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
            --on_loop.workers[endpoint].counts;
            on_loop.release_if_unused(endpoint);
            if (!on_loop.closed) on_loop.on_events({TokensCounted{id, tokens}});
          });
        }
      });
}

void WorkerCalls::close() {
  shared_->closed = true;
  for (auto& [endpoint, worker] : shared_->workers) {
    if (worker.call) worker.call->cancel();
  }
}

}  // namespace orch::gateway
