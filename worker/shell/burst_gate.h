// Purpose: lets what one burst of the engine's calls (a step, a poll) told several jobs of a stream leave as one
// message: streams that have something to tell wait here for the burst's end. Threads: any. Ownership: shared by the
// service and the engine's callback, which may come after the service has gone.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace orch::worker {

class BurstListener {
 public:
  virtual ~BurstListener() = default;
  virtual void burst_over() = 0;
};

class BurstGate {
 public:
  void wait(const std::shared_ptr<BurstListener>& listener) {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [](const auto& each) { return each.expired(); });
    waiting_.push_back(listener);
  }
  void over() {
    std::vector<std::weak_ptr<BurstListener>> told;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) return;
      std::swap(told, waiting_);
    }
    for (const auto& each : told) {
      if (const auto listener = each.lock()) listener->burst_over();
    }
  }

 private:
  std::mutex mutex_;
  // Each once: a stream waits until it was told. Not its owner: an engine without work has no bursts.
  std::vector<std::weak_ptr<BurstListener>> waiting_;
};

}  // namespace orch::worker
