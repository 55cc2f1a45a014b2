// step_bench [--model=FILE] [--threads=N] [--rounds=5]
// What `threads` threads read from memory, bytes/s; then, of a model, what a step of so many rows takes, as one
// sequence (a prompt, or drafts that are verified) and as sequences of their own (a batch). Lines for bench.py:
//   bandwidth BYTES_PER_SECOND
//   step ROWS ONE_SEQUENCE_MS SEQUENCES_MS     the fastest of five a round
#include <algorithm>
#include <array>
#include <barrier>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <numeric>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "worker/core/backend.h"
#include "worker/core/kv_pages.h"
#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/kernels.h"
#include "worker/model/gguf_file.h"
#include "worker/model/weights.h"

namespace orch::bench {
namespace {

constexpr std::uint32_t kPosition = 64;  // where the measured rows begin
constexpr std::uint32_t kSequences = 64;
constexpr std::array<std::uint32_t, 13> kRows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 32, 64};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Sixteen sums and loads asked for ahead, as the engine does it, so that neither adding nor a page's border is
// measured.
std::uint64_t read_all(const std::vector<std::uint64_t>& words) {
  constexpr std::size_t kStep = 16;
  constexpr std::size_t kAhead = 256;
  std::uint64_t sums[kStep] = {};
  for (std::size_t i = 0; i + kStep <= words.size(); i += kStep) {
    for (std::size_t line = 0; line < kStep; line += 8) __builtin_prefetch(words.data() + i + kAhead + line);
    for (std::size_t k = 0; k < kStep; ++k) sums[k] += words[i + k];
  }
  return std::accumulate(std::begin(sums), std::end(sums), std::uint64_t{0});
}

// The best of `rounds` passes over more than any cache holds, all threads at once.
double read_bandwidth(unsigned threads, unsigned rounds) {
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  std::barrier meeting(static_cast<std::ptrdiff_t>(threads) + 1);
  std::vector<std::uint64_t> sums(threads);
  std::vector<std::thread> workers;
  workers.reserve(threads);
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      const std::vector<std::uint64_t> words(kBytes / sizeof(std::uint64_t), t);  // touched by the thread that reads it
      for (unsigned round = 0; round < rounds; ++round) {
        meeting.arrive_and_wait();
        sums[t] += read_all(words);
        meeting.arrive_and_wait();
      }
    });
  }
  double best = 0;
  for (unsigned round = 0; round < rounds; ++round) {
    meeting.arrive_and_wait();
    const auto start = std::chrono::steady_clock::now();
    meeting.arrive_and_wait();
    best = std::max(best, static_cast<double>(kBytes) * threads / seconds_since(start));
  }
  for (std::thread& worker : workers) worker.join();
  for (unsigned t = 0; t < threads; ++t) {
    if (sums[t] != std::uint64_t{rounds} * t * (kBytes / sizeof(std::uint64_t))) std::abort();  // the sums are used
  }
  return best;
}

class StepTimer {
 public:
  StepTimer(worker::Backend& backend, std::uint32_t vocabulary) : backend_(backend), vocabulary_(vocabulary) {
    const std::uint32_t each = worker::pages_for(kPosition + kRows.back());
    for (std::uint32_t s = 0; s < kSequences; ++s) {
      tables_.emplace_back();
      for (std::uint32_t page = 0; page < each; ++page) tables_.back().push_back(s * each + page);
      std::vector<worker::Row> rows;
      rows.reserve(kPosition);
      for (std::uint32_t p = 0; p < kPosition; ++p) rows.push_back({1 + (7 * p + s) % 200, p, s, false});
      run(rows);
    }
  }

  double one_sequence(std::uint32_t count) {
    std::vector<worker::Row> rows;
    rows.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) rows.push_back({5 + i, kPosition + i, 0, true});
    return run(rows);
  }
  double sequences(std::uint32_t count) {
    std::vector<worker::Row> rows;
    rows.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) rows.push_back({5 + i, kPosition, i, true});
    return run(rows);
  }

 private:
  double run(const std::vector<worker::Row>& rows) {
    std::size_t wanted = 0;
    for (const worker::Row& row : rows) wanted += row.want_logits ? 1 : 0;
    logits_.resize(wanted * vocabulary_);
    const auto start = std::chrono::steady_clock::now();
    if (!backend_.step({rows, tables_}, {logits_}).ok()) std::abort();
    return seconds_since(start);
  }

  worker::Backend& backend_;
  std::uint32_t vocabulary_;
  std::vector<std::vector<worker::PageId>> tables_;
  std::vector<float> logits_;
};

// The fastest: what a step takes when nothing else wants the cores.
double least(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }

int time_steps(const std::string& path, unsigned threads, unsigned rounds) {
  const auto file = worker::GgufFile::open(path);
  if (!file.ok()) return 65;
  auto model = worker::load_model(**file, {}, threads);
  if (!model.ok()) {
    std::fprintf(stderr, "step_bench: %s\n", model.error().message.c_str());
    return 65;
  }
  const std::uint32_t vocabulary = model->config.vocabulary;
  const std::uint32_t pages = kSequences * worker::pages_for(kPosition + kRows.back());
  auto backend = worker::cpu::create_cpu_backend(std::move(model).value(), worker::cpu::best_kernels(),
                                                 {.threads = threads, .context = 256, .pages = pages});
  if (!backend.ok()) return 71;
  StepTimer timer(**backend, vocabulary);
  std::array<std::vector<double>, kRows.size()> one;
  std::array<std::vector<double>, kRows.size()> many;
  for (unsigned round = 0; round < rounds; ++round) {  // interleaved, so that a busy moment hits all alike
    for (std::size_t i = 0; i < kRows.size(); ++i) {
      for (int again = 0; again < 5; ++again) {
        one[i].push_back(timer.one_sequence(kRows[i]));
        many[i].push_back(timer.sequences(kRows[i]));
      }
    }
  }
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    std::printf("step %u %.3f %.3f\n", kRows[i], least(one[i]) * 1e3, least(many[i]) * 1e3);
  }
  return 0;
}

bool read_number(std::string_view argument, std::string_view name, unsigned& out) {
  if (!argument.starts_with(name)) return false;
  const std::string_view digits = argument.substr(name.size());
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return error == std::errc() && end == digits.data() + digits.size() && out > 0 && out <= 256;
}

int main_of(int argc, char** argv) {
  std::string model;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  unsigned rounds = 5;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--model=")) {
      model = argument.substr(8);
    } else if (!read_number(argument, "--threads=", threads) && !read_number(argument, "--rounds=", rounds)) {
      std::fprintf(stderr, "step_bench: unknown argument %s\n", argv[i]);
      return 64;
    }
  }
  std::printf("bandwidth %.0f\n", read_bandwidth(threads, rounds + 1));
  return model.empty() ? 0 : time_steps(model, threads, rounds);
}

}  // namespace
}  // namespace orch::bench

int main(int argc, char** argv) { return orch::bench::main_of(argc, argv); }
