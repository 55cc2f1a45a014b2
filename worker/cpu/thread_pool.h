// The compute threads of one backend: persistent, started once (ENGINE-RULES interface 10). A run is a list of phases,
// a phase a number of units; whoever is free takes the next unit, and the next phase opens when every unit is done. So
// a thread that lost its core holds up at most the unit in its hands: where all threads met at a barrier, one neighbour
// on the machine slowed decoding eightfold. Which thread computes a unit changes no byte, because a unit's arithmetic
// does not depend on it.
//
// Threads: run() is called by one thread at a time, which takes part as index 0. Waiting spins briefly, then sleeps on
// a futex, so that a busy machine is not burned by idle threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace orch::worker::cpu {

class ThreadPool {
 public:
  static constexpr std::uint32_t kUnitsMax = (1U << 20U) - 1;   // of one phase
  static constexpr std::uint32_t kPhasesMax = (1U << 24U) - 1;  // of one run

  struct Work {
    void* context = nullptr;
    std::uint32_t phases = 0;
    // How many units `phase` has, 0 included; asked once, when every unit of the phases before it is done.
    std::uint32_t (*units)(void* context, std::uint32_t phase) = nullptr;
    void (*unit)(void* context, std::uint32_t phase, std::uint32_t unit, std::uint32_t thread) = nullptr;
  };

  explicit ThreadPool(std::uint32_t threads);  // >= 1; starts threads - 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::uint32_t size() const { return size_; }

  // Returns when every unit of every phase is done; what they wrote is visible to the caller.
  void run(const Work& work);

 private:
  void help(std::uint32_t thread);
  bool take_unit(std::uint32_t thread);
  void open_from(std::uint32_t phase);

  std::uint32_t size_;
  std::vector<std::thread> threads_;
  Work work_;  // written before a run's first phase opens, read only with a unit in hand
  std::atomic<bool> stopping_{false};
  // phase (24 bits) | its units (20) | next unit to take (20). A successful exchange means that the phase is open, so
  // the step cannot end before the unit is done.
  alignas(64) std::atomic<std::uint64_t> state_{0};
  alignas(64) std::atomic<std::uint32_t> done_{0};    // units of the open phase
  alignas(64) std::atomic<std::uint32_t> opened_{0};  // grows with every change of state_ worth waking for
};

// Cores this process may use: the smaller of its affinity mask and its cgroup's CPU quota, at least 1.
std::uint32_t usable_cores();

}  // namespace orch::worker::cpu
