// Signals as events on the loop. SIGPIPE is ignored for the whole process: a closed peer is an error code, not a death.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/runtime/event_loop.h"

namespace orch::runtime {

class Signals {
 public:
  Signals(EventLoop& loop, std::vector<int> numbers, std::function<void(int)> on_signal);
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace orch::runtime
