#include "worker/cpu/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "common/base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace orch::worker::cpu {
namespace {

// About 20 us: longer than the gap between two operations of a step, shorter than a time slice.
constexpr std::uint32_t kSpins = 4000;

void pause_core() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

// Returns once `value` differs from `old`.
void wait_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (std::uint32_t i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_core();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(std::uint32_t threads) : size_(threads) {
  ORCH_CHECK(threads >= 1);
  for (std::uint32_t i = 1; i < threads; ++i) threads_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(Function function, void* context) {
  function_ = function;
  context_ = context;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  function(context, 0);
  barrier();  // the workers end their turn with it too
}

void ThreadPool::barrier() {
  if (size_ == 1) return;
  const std::uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    phase_.notify_all();
    return;
  }
  wait_change(phase_, phase);
}

void ThreadPool::work(std::uint32_t index) {
  std::uint32_t seen = 0;
  while (true) {
    wait_change(epoch_, seen);
    ++seen;
    if (stopping_.load(std::memory_order_relaxed)) return;
    function_(context_, index);
    barrier();
  }
}

std::uint32_t usable_cores() {
  std::uint32_t cores = 1;
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) == 0) cores = static_cast<std::uint32_t>(std::max(1, CPU_COUNT(&mask)));
  std::ifstream in("/sys/fs/cgroup/cpu.max");  // "max 100000" or "<quota> <period>"
  std::string quota;
  double period = 0;
  if (in >> quota >> period && quota != "max" && period > 0) {
    const double share = std::strtod(quota.c_str(), nullptr) / period;
    if (share >= 1.0)
      cores = std::min(cores, static_cast<std::uint32_t>(share));
    else
      cores = 1;
  }
  return cores;
}

}  // namespace orch::worker::cpu
