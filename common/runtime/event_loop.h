// Purpose: the one thread that owns all mutable state of a service, its timers and the mailboxes that lead to it.
// Threads: run() makes the calling thread the loop. stop(), post() and LoopMailbox::push() may be called from any
// thread, everything else from the loop only. Ownership: the loop must outlive everything constructed with it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/time.h"
#include "common/runtime/clock.h"
#include "common/runtime/mailbox.h"

namespace boost::asio {
class io_context;
}

namespace orch::runtime {

class EventLoop {
 public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Returns after stop(). An exception out of a handler is a fault of ours and ends the process.
  void run();
  void stop();
  // Runs `task` on the loop, after everything already queued there.
  void post(std::function<void()> task);
  boost::asio::io_context& io();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// One settable alarm on CLOCK_BOOTTIME (a timerfd, since asio's timers stop in suspend). Fires once per set(); setting
// it later than it is armed costs no system call.
class LoopTimer {
 public:
  LoopTimer(EventLoop& loop, std::function<void()> on_fire);
  ~LoopTimer();
  LoopTimer(const LoopTimer&) = delete;
  LoopTimer& operator=(const LoopTimer&) = delete;

  // Replaces the previous instant. Instant::never() disarms; an instant in the past fires in the next turn.
  void set(Instant at);
  Instant at() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// A mailbox whose consumer is the loop: `on_batch` gets everything that piled up, once per turn.
template <typename T>
class LoopMailbox {
 public:
  LoopMailbox(EventLoop& loop, std::size_t capacity, std::function<void(std::vector<T>&)> on_batch)
      : shared_(std::make_shared<Shared>(loop, capacity, std::move(on_batch))) {
    // The wake holds the state weakly: a late push after destruction reaches nobody instead of freed memory.
    shared_->self = shared_;
  }
  ~LoopMailbox() { shared_->on_batch = nullptr; }
  LoopMailbox(const LoopMailbox&) = delete;
  LoopMailbox& operator=(const LoopMailbox&) = delete;

  Pushed push(T message) { return shared_->box.push(std::move(message)); }
  // For producers that may outlive the mailbox's owner: a handle whose pushes after that are dropped.
  std::function<Pushed(T)> sender() {
    return [shared = shared_](T message) { return shared->box.push(std::move(message)); };
  }

 private:
  struct Shared {
    Shared(EventLoop& event_loop, std::size_t capacity, std::function<void(std::vector<T>&)> handler)
        : loop(event_loop), on_batch(std::move(handler)), box(capacity, [this] { wake(); }) {}
    void wake() {
      loop.post([alive = self.lock()] {
        if (alive && alive->on_batch) alive->on_batch(alive->box.drain());
      });
    }
    EventLoop& loop;
    std::weak_ptr<Shared> self;
    std::function<void(std::vector<T>&)> on_batch;
    Mailbox<T> box;
  };
  std::shared_ptr<Shared> shared_;
};

}  // namespace orch::runtime
