// Purpose: client sides of gRPC calls whose reactions do nothing but hand a value to a callback, which pushes it into a
// mailbox. Flow (DESIGN-RULES "Flow"): after each message nothing more is read until read_next(), so a stream has at
// most one unconsumed message in the mailbox.
// Threads: methods from any thread; callbacks on gRPC threads, one at a time per kind, must not block.
// Ownership: a call keeps itself alive until on_done, which comes exactly once and last.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/client_callback.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "common/runtime/mailbox.h"

namespace orch::runtime {

// Bidirectional stream. `Out` goes to the server.
template <typename Out, typename In>
class BidiCall final : public grpc::ClientBidiReactor<Out, In> {
 public:
  struct Events {
    std::function<void(In)> on_message;
    std::function<void(const grpc::Status&)> on_done;
    // Puts `more` into a message that waits to be written; false: it stays a message of its own. May be empty.
    std::function<bool(Out& waiting, Out& more)> merge = {};
  };
  // Begins the call: [stub](auto* context, auto* reactor) { stub->async()->Attach(context, reactor); }
  using Begin = std::function<void(grpc::ClientContext*, grpc::ClientBidiReactor<Out, In>*)>;

  static std::shared_ptr<BidiCall> start(const Begin& begin, Events events, std::size_t outbox_max) {
    std::shared_ptr<BidiCall> call(new BidiCall(std::move(events), outbox_max));
    call->self_ = call;
    begin(&call->context_, call.get());
    call->AddHold();  // operations are started from outside the reactions until the stream is known to have ended
    call->StartRead(&call->incoming_);
    call->StartCall();
    return call;
  }

  // Full: the peer does not keep up; the caller decides. Silently dropped once the stream has ended.
  Pushed send(Out message) {
    const std::lock_guard lock(mutex_);
    if (closed_) return Pushed::ok;
    if (outbox_.size() > 1 && events_.merge && events_.merge(outbox_.back(), message)) return Pushed::ok;
    if (outbox_.size() >= outbox_max_) return Pushed::full;
    outbox_.push_back(std::move(message));
    if (outbox_.size() == 1) this->StartWrite(&outbox_.front());
    return Pushed::ok;
  }
  void read_next() {
    const std::lock_guard lock(mutex_);
    if (closed_ || reading_) return;
    reading_ = true;
    this->StartRead(&incoming_);
  }
  void cancel() {
    const auto alive = this->keep();
    bool release = false;
    {
      const std::lock_guard lock(mutex_);
      if (!closed_ && !reading_) release = true;
      if (release) closed_ = true;
    }
    context_.TryCancel();
    if (release) this->RemoveHold();
  }

 private:
  BidiCall(Events events, std::size_t outbox_max) : events_(std::move(events)), outbox_max_(outbox_max) {}
  std::shared_ptr<BidiCall> keep() {
    const std::lock_guard lock(mutex_);
    return self_;
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      {
        const std::lock_guard lock(mutex_);
        reading_ = false;
      }
      events_.on_message(std::move(incoming_));
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    this->RemoveHold();
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    outbox_.pop_front();
    if (!ok || closed_) {
      outbox_.clear();
      return;
    }
    if (!outbox_.empty()) this->StartWrite(&outbox_.front());
  }
  void OnDone(const grpc::Status& status) override {
    std::shared_ptr<BidiCall> last;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      last = std::move(self_);
    }
    events_.on_done(status);
  }

  grpc::ClientContext context_;
  const Events events_;
  const std::size_t outbox_max_;
  In incoming_;
  std::mutex mutex_;
  std::deque<Out> outbox_;  // the front is being written; deque keeps its address
  bool reading_ = true;
  bool closed_ = false;
  std::shared_ptr<BidiCall> self_;
};

// One request, one reply. `begin`: [stub](ctx, req, rep, done) { stub->async()->CountTokens(ctx, req, rep, done); }
template <typename Request, typename Reply>
void start_unary(
    const std::function<void(grpc::ClientContext*, const Request*, Reply*, std::function<void(grpc::Status)>)>& begin,
    Request request, Duration timeout, std::function<void(const grpc::Status&, Reply)> on_done) {
  struct Call {
    grpc::ClientContext context;
    Request request;
    Reply reply;
  };
  auto call = std::make_shared<Call>();
  call->request = std::move(request);
  call->context.set_deadline(std::chrono::system_clock::now() + std::chrono::nanoseconds(timeout.ns));
  Call& state = *call;
  begin(&state.context, &state.request, &state.reply,
        [call = std::move(call), on_done = std::move(on_done)](const grpc::Status& status) {
          on_done(status, std::move(call->reply));
        });
}

}  // namespace orch::runtime
