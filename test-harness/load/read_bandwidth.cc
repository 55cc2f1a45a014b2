#include "load/read_bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <numeric>
#include <span>
#include <thread>
#include <vector>

namespace orch::bench {
namespace {

constexpr std::size_t kBytesMax = std::size_t{512} << 20;  // of one thread
constexpr std::size_t kBytesMin = std::size_t{64} << 20;
constexpr std::size_t kBytesOfAll = std::size_t{4} << 30;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Free {
  void operator()(std::uint64_t* words) const { std::free(words); }
};
using Words = std::unique_ptr<std::uint64_t[], Free>;

// In huge pages where the system has them: misses of the translation cache are no part of the memory's speed.
Words make_words(std::size_t bytes, std::uint64_t value) {
  void* memory = std::aligned_alloc(kHugePage, bytes);
  if (memory == nullptr) std::abort();
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a wish; where it is not granted the pages are small
  Words words(static_cast<std::uint64_t*>(memory));
  std::fill_n(words.get(), bytes / sizeof(std::uint64_t), value);  // touched by the thread that reads it
  return words;
}

// Sixteen sums and loads asked for ahead, as the engine does it, so that neither adding nor a page's border is
// measured.
std::uint64_t read_all(std::span<const std::uint64_t> words) {
  constexpr std::size_t kStep = 16;
  constexpr std::size_t kAhead = 256;
  std::uint64_t sums[kStep] = {};
  for (std::size_t i = 0; i + kStep <= words.size(); i += kStep) {
    for (std::size_t line = 0; line < kStep; line += 8) __builtin_prefetch(words.data() + i + kAhead + line);
    for (std::size_t k = 0; k < kStep; ++k) sums[k] += words[i + k];
  }
  return std::accumulate(std::begin(sums), std::end(sums), std::uint64_t{0});
}

}  // namespace

Bandwidth read_bandwidth(unsigned threads, unsigned passes) {
  const std::size_t each = std::clamp(kBytesOfAll / threads / kHugePage * kHugePage, kBytesMin, kBytesMax);
  const std::size_t count = each / sizeof(std::uint64_t);
  std::barrier meeting(static_cast<std::ptrdiff_t>(threads) + 1);
  std::vector<std::uint64_t> sums(threads);
  std::vector<std::thread> workers;
  workers.reserve(threads);
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      const Words words = make_words(each, t);
      for (unsigned pass = 0; pass < passes; ++pass) {
        meeting.arrive_and_wait();
        sums[t] += read_all({words.get(), count});
        meeting.arrive_and_wait();
      }
    });
  }
  std::vector<double> rates;
  for (unsigned pass = 0; pass < passes; ++pass) {
    meeting.arrive_and_wait();
    const auto start = std::chrono::steady_clock::now();
    meeting.arrive_and_wait();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    rates.push_back(static_cast<double>(each) * threads / took.count());
  }
  for (std::thread& worker : workers) worker.join();
  for (unsigned t = 0; t < threads; ++t) {
    if (sums[t] != std::uint64_t{passes} * t * count) std::abort();  // the sums are used
  }
  std::sort(rates.begin(), rates.end());
  return {rates.back(), rates[rates.size() / 2], rates.front()};
}

}  // namespace orch::bench
