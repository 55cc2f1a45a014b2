#include "common/runtime/event_loop.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <cstdint>
#include <optional>

namespace orch::runtime {
namespace asio = boost::asio;

struct EventLoop::State {
  // One thread runs it; post() and stop() still come from others.
  asio::io_context io{1};
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{io.get_executor()};
};

EventLoop::EventLoop() : state_(std::make_unique<State>()) {}
EventLoop::~EventLoop() = default;
void EventLoop::run() {
  state_->io.restart();
  state_->io.run();
}
void EventLoop::stop() { state_->io.stop(); }
void EventLoop::post(std::function<void()> task) { asio::post(state_->io, std::move(task)); }
asio::io_context& EventLoop::io() { return state_->io; }

struct LoopTimer::State : std::enable_shared_from_this<LoopTimer::State> {
  State(EventLoop& loop, std::function<void()> callback)
      : descriptor(loop.io(), ::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)),
        on_fire(std::move(callback)) {}

  void arm(Instant at) {
    armed = at;
    itimerspec spec{};
    // An absolute time of zero would disarm; anything in the past fires at once.
    const std::int64_t ns = at.ns < 1 ? 1 : at.ns;
    spec.it_value.tv_sec = ns / 1'000'000'000;
    spec.it_value.tv_nsec = ns % 1'000'000'000;
    ORCH_CHECK(::timerfd_settime(descriptor.native_handle(), TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
    if (waiting) return;
    waiting = true;
    descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                          [self = shared_from_this()](const boost::system::error_code& error) { self->fired(error); });
  }
  void fired(const boost::system::error_code& error) {
    waiting = false;
    armed = Instant::never();
    if (error) return;
    std::uint64_t expirations = 0;
    [[maybe_unused]] const auto got = ::read(descriptor.native_handle(), &expirations, sizeof expirations);
    if (wanted.is_never()) return;
    // The alarm may have been moved to a later instant without touching the kernel.
    if (wanted > now()) return arm(wanted);
    wanted = Instant::never();
    if (on_fire) on_fire();
  }

  asio::posix::stream_descriptor descriptor;
  std::function<void()> on_fire;
  Instant wanted = Instant::never();
  Instant armed = Instant::never();
  bool waiting = false;
};

LoopTimer::LoopTimer(EventLoop& loop, std::function<void()> on_fire)
    : state_(std::make_shared<State>(loop, std::move(on_fire))) {}
LoopTimer::~LoopTimer() {
  state_->on_fire = nullptr;
  state_->wanted = Instant::never();
  boost::system::error_code ignored;
  state_->descriptor.close(ignored);
}
void LoopTimer::set(Instant at) {
  state_->wanted = at;
  if (!at.is_never() && at < state_->armed) state_->arm(at);
}
Instant LoopTimer::at() const { return state_->wanted; }

}  // namespace orch::runtime
