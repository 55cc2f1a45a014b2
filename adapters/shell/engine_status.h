// What is known about the engine behind a bridge: written by the prober and the loop, read by anyone. Threads: any.
#pragma once

#include <algorithm>
#include <mutex>

#include "worker/core/engine_port.h"

namespace orch::adapter {

class EngineStatus {
 public:
  worker::EngineInfo info() const {
    const std::lock_guard lock(mutex_);
    return info_;
  }
  worker::EngineCounters counters() const {
    const std::lock_guard lock(mutex_);
    return counters_;
  }
  bool ready() const {
    const std::lock_guard lock(mutex_);
    return info_.ready;
  }
  // change(EngineInfo&, EngineCounters&), under the lock.
  template <typename Change>
  void update(Change change) {
    const std::lock_guard lock(mutex_);
    change(info_, counters_);
  }

 private:
  mutable std::mutex mutex_;
  worker::EngineInfo info_;
  worker::EngineCounters counters_;
};

}  // namespace orch::adapter
