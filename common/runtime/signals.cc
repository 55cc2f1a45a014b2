#include "common/runtime/signals.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

namespace orch::runtime {

struct Signals::State : std::enable_shared_from_this<Signals::State> {
  State(EventLoop& loop, std::function<void(int)> callback) : set(loop.io()), on_signal(std::move(callback)) {}
  void wait() {
    set.async_wait([self = shared_from_this()](const boost::system::error_code& error, int number) {
      if (error || !self->on_signal) return;
      self->on_signal(number);
      self->wait();
    });
  }
  boost::asio::signal_set set;
  std::function<void(int)> on_signal;
};

Signals::Signals(EventLoop& loop, std::vector<int> numbers, std::function<void(int)> on_signal)
    : state_(std::make_shared<State>(loop, std::move(on_signal))) {
  std::signal(SIGPIPE, SIG_IGN);
  for (const int number : numbers) {
    boost::system::error_code error;
    state_->set.add(number, error);
    ORCH_CHECK(!error);
  }
  state_->wait();
}
Signals::~Signals() {
  state_->on_signal = nullptr;
  boost::system::error_code ignored;
  state_->set.cancel(ignored);
}

}  // namespace orch::runtime
