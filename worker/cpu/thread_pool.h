// The compute threads of one backend: persistent, all run the same function on their own index (ENGINE-RULES interface
// 10). Waiting spins briefly, then sleeps on a futex, so that a busy machine is not burned by idle threads.
//
// run() is called by one thread at a time, which takes part as index 0. barrier() may only be called inside run(), by
// every thread the same number of times.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace orch::worker::cpu {

class ThreadPool {
 public:
  using Function = void (*)(void* context, std::uint32_t index);

  explicit ThreadPool(std::uint32_t threads);  // >= 1; starts threads - 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::uint32_t size() const { return size_; }

  // Calls function(context, index) on every thread and returns when all have.
  void run(Function function, void* context);
  void barrier();

 private:
  void work(std::uint32_t index);

  std::uint32_t size_;
  std::vector<std::thread> threads_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<std::uint32_t> epoch_{0};    // run() number
  alignas(64) std::atomic<std::uint32_t> arrived_{0};  // at the current barrier
  alignas(64) std::atomic<std::uint32_t> phase_{0};    // barriers passed
};

// Cores this process may use: the smaller of its affinity mask and its cgroup's CPU quota, at least 1.
std::uint32_t usable_cores();

}  // namespace orch::worker::cpu
