// Purpose: server sides of streaming calls whose reactions do nothing but hand a value to a callback, which pushes it
// into a mailbox. Flow: after each message nothing more is read until read_next().
// Threads: methods from any thread; callbacks on gRPC threads, must not block. Ownership: a reactor keeps itself alive
// until on_done, which comes exactly once and last. A service method returns `.get()` of what start() gave.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "common/runtime/mailbox.h"

namespace orch::runtime {

// Both directions streamed. `In` comes from the client.
template <typename In, typename Out>
class BidiServe final : public grpc::ServerBidiReactor<In, Out> {
 public:
  struct Events {
    std::function<void(In)> on_message;
    std::function<void()> on_end;   // the client half-closed, canceled or is gone; at most once
    std::function<void()> on_done;  // nothing of this stream is left
  };

  static std::shared_ptr<BidiServe> start(Events events, std::size_t outbox_max) {
    std::shared_ptr<BidiServe> stream(new BidiServe(std::move(events), outbox_max));
    stream->self_ = stream;
    stream->reading_ = true;
    stream->StartRead(&stream->incoming_);
    return stream;
  }

  // Full: the client does not keep up. Silently dropped once finish() was called or the client is gone.
  Pushed send(Out message) {
    const std::lock_guard lock(mutex_);
    if (closing_ || broken_) return Pushed::ok;
    if (outbox_.size() >= outbox_max_) return Pushed::full;
    outbox_.push_back(std::move(message));
    if (outbox_.size() == 1) this->StartWrite(&outbox_.front());
    return Pushed::ok;
  }
  void read_next() {
    const std::lock_guard lock(mutex_);
    if (finished_ || reading_ || read_ended_) return;
    reading_ = true;
    this->StartRead(&incoming_);
  }
  // After what was sent. Only the first call counts.
  void finish(grpc::Status status) {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
    status_ = std::move(status);
    if (outbox_.empty()) finish_now();
  }

 private:
  BidiServe(Events events, std::size_t outbox_max) : events_(std::move(events)), outbox_max_(outbox_max) {}

  void finish_now() {
    if (finished_) return;
    finished_ = true;
    this->Finish(status_);
  }
  void end_once() {
    {
      const std::lock_guard lock(mutex_);
      if (end_told_) return;
      end_told_ = true;
    }
    if (events_.on_end) events_.on_end();
  }

  void OnReadDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      reading_ = false;
      if (!ok) read_ended_ = true;
    }
    if (ok) {
      events_.on_message(std::move(incoming_));
    } else {
      end_once();
    }
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    outbox_.pop_front();
    if (!ok) {
      broken_ = true;
      outbox_.clear();
    }
    if (!outbox_.empty()) {
      this->StartWrite(&outbox_.front());
    } else if (closing_) {
      finish_now();
    }
  }
  void OnCancel() override {
    {
      const std::lock_guard lock(mutex_);
      broken_ = true;
      // A write in flight completes with !ok and finishes then.
      if (!closing_) {
        closing_ = true;
        status_ = grpc::Status::CANCELLED;
        if (outbox_.empty()) finish_now();
      }
    }
    end_once();
  }
  void OnDone() override {
    std::shared_ptr<BidiServe> last;
    {
      const std::lock_guard lock(mutex_);
      finished_ = true;
      last = std::move(self_);
    }
    end_once();
    if (events_.on_done) events_.on_done();
  }

  const Events events_;
  const std::size_t outbox_max_;
  In incoming_;
  std::mutex mutex_;
  std::deque<Out> outbox_;  // the front is being written
  grpc::Status status_;
  bool reading_ = false;
  bool read_ended_ = false;
  bool end_told_ = false;
  bool closing_ = false;   // finish() was called
  bool finished_ = false;  // Finish() was called
  bool broken_ = false;
  std::shared_ptr<BidiServe> self_;
};

// One request, a stream of replies.
template <typename Out>
class WriteServe final : public grpc::ServerWriteReactor<Out> {
 public:
  struct Events {
    std::function<void()> on_cancel;  // the client canceled or is gone; at most once
    std::function<void()> on_done;    // nothing of this stream is left
  };

  static std::shared_ptr<WriteServe> start(Events events, std::size_t outbox_max) {
    std::shared_ptr<WriteServe> stream(new WriteServe(std::move(events), outbox_max));
    stream->self_ = stream;
    return stream;
  }

  Pushed send(Out message) {
    const std::lock_guard lock(mutex_);
    if (closing_ || broken_) return Pushed::ok;
    if (outbox_.size() >= outbox_max_) return Pushed::full;
    outbox_.push_back(std::move(message));
    if (outbox_.size() == 1) this->StartWrite(&outbox_.front());
    return Pushed::ok;
  }
  // Calls back once, when the transport has taken everything that was sent: at once, or on a gRPC thread.
  void once_idle(std::function<void()> callback) {
    {
      const std::lock_guard lock(mutex_);
      if (!outbox_.empty()) {
        on_idle_ = std::move(callback);
        return;
      }
    }
    callback();
  }
  // `last` runs right before the status goes out, if it does: the call and its context are there then.
  void finish(grpc::Status status, std::function<void()> last = nullptr) {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    closing_ = true;
    status_ = std::move(status);
    last_ = std::move(last);
    if (outbox_.empty()) finish_now();
  }

 private:
  WriteServe(Events events, std::size_t outbox_max) : events_(std::move(events)), outbox_max_(outbox_max) {}

  void finish_now() {
    if (finished_) return;
    finished_ = true;
    if (last_) last_();
    this->Finish(status_);
  }

  void OnWriteDone(bool ok) override {
    std::function<void()> idle;
    {
      const std::lock_guard lock(mutex_);
      outbox_.pop_front();
      if (!ok) {
        broken_ = true;
        outbox_.clear();
      }
      if (!outbox_.empty()) {
        this->StartWrite(&outbox_.front());
      } else if (closing_) {
        finish_now();
      } else {
        idle = std::exchange(on_idle_, nullptr);
      }
    }
    if (idle) idle();
  }
  void OnCancel() override {
    {
      const std::lock_guard lock(mutex_);
      broken_ = true;
      if (!closing_) {
        closing_ = true;
        status_ = grpc::Status::CANCELLED;
        if (outbox_.empty()) finish_now();
      }
    }
    if (events_.on_cancel) events_.on_cancel();
  }
  void OnDone() override {
    std::shared_ptr<WriteServe> last;
    {
      const std::lock_guard lock(mutex_);
      finished_ = true;
      last = std::move(self_);
    }
    if (events_.on_done) events_.on_done();
  }

  const Events events_;
  const std::size_t outbox_max_;
  std::mutex mutex_;
  std::deque<Out> outbox_;  // the front is being written
  std::function<void()> on_idle_;
  grpc::Status status_;
  std::function<void()> last_;
  bool closing_ = false;
  bool finished_ = false;
  bool broken_ = false;
  std::shared_ptr<WriteServe> self_;
};

}  // namespace orch::runtime
