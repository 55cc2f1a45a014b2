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

constexpr std::uint32_t kUnitBits = 20;
constexpr std::uint64_t kUnitMask = (1U << kUnitBits) - 1;

std::uint64_t packed(std::uint32_t phase, std::uint32_t units) {
  return std::uint64_t{phase} << (2 * kUnitBits) | std::uint64_t{units} << kUnitBits;
}
std::uint32_t phase_of(std::uint64_t state) { return static_cast<std::uint32_t>(state >> (2 * kUnitBits)); }
std::uint32_t units_of(std::uint64_t state) { return static_cast<std::uint32_t>(state >> kUnitBits & kUnitMask); }
std::uint32_t next_of(std::uint64_t state) { return static_cast<std::uint32_t>(state & kUnitMask); }

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
  for (std::uint32_t i = 1; i < threads; ++i) threads_.emplace_back([this, i] { help(i); });
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  opened_.fetch_add(1, std::memory_order_release);
  opened_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(const Work& work) {
  ORCH_CHECK(work.phases <= kPhasesMax);
  if (size_ == 1) {
    for (std::uint32_t phase = 0; phase < work.phases; ++phase) {
      const std::uint32_t units = work.units(work.context, phase);
      for (std::uint32_t unit = 0; unit < units; ++unit) work.unit(work.context, phase, unit, 0);
    }
    return;
  }
  work_ = work;
  open_from(0);
  while (true) {
    const std::uint32_t seen = opened_.load(std::memory_order_acquire);
    if (take_unit(0)) continue;
    if (phase_of(state_.load(std::memory_order_acquire)) == work.phases) return;
    wait_change(opened_, seen);
  }
}

void ThreadPool::help(std::uint32_t thread) {
  while (true) {
    const std::uint32_t seen = opened_.load(std::memory_order_acquire);
    if (stopping_.load(std::memory_order_relaxed)) return;
    if (!take_unit(thread)) wait_change(opened_, seen);
  }
}

bool ThreadPool::take_unit(std::uint32_t thread) {
  std::uint64_t state = state_.load(std::memory_order_acquire);
  do {
    if (next_of(state) >= units_of(state)) return false;
  } while (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire));
  work_.unit(work_.context, phase_of(state), next_of(state), thread);
  if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == units_of(state)) open_from(phase_of(state) + 1);
  return true;
}

// Called by the one thread that did the last unit of the phase before, or by run().
void ThreadPool::open_from(std::uint32_t phase) {
  std::uint32_t units = 0;
  while (phase < work_.phases && (units = work_.units(work_.context, phase)) == 0) ++phase;
  ORCH_CHECK(units <= kUnitsMax);
  done_.store(0, std::memory_order_relaxed);
  state_.store(packed(phase, phase < work_.phases ? units : 0), std::memory_order_release);
  opened_.fetch_add(1, std::memory_order_release);
  opened_.notify_all();
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
