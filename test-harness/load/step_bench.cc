// step_bench [--model=FILE] [--threads=N] [--rounds=5] [--rows=64] [--device=vulkan[:index|:uuid]] [--own-inputs=N]
// What `threads` threads read from memory, bytes/s; then, of a model, what a step of so many rows takes, as one
// sequence (a prompt, or drafts that are verified) and as sequences of their own (a batch). With --device, which
// `step_bench_vulkan` knows, the steps run on that device and the bandwidth is left to `vulkan_facts`; plain `vulkan`
// is a hardware device or none. --own-inputs: steps of up to so many rows have the inputs of their matmuls made inside
// them, whatever suits the device (1 to 4; 0: none). --rows: no step of more. Lines for bench.py:
//   bandwidth BEST MEDIAN WORST PASSES         bytes/s of all threads together
//   device NAME
//   step ROWS ONE_SEQUENCE_MS SEQUENCES_MS     the fastest of five a round
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/result.h"
#include "load/read_bandwidth.h"
#include "worker/core/backend.h"
#include "worker/core/kv_pages.h"
#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/kernels.h"
#include "worker/model/gguf_file.h"
#include "worker/model/weights.h"
#ifdef ORCH_VULKAN
#include "worker/vulkan/device_list.h"
#include "worker/vulkan/vulkan_backend.h"
#endif

namespace orch::bench {
namespace {

constexpr std::array<std::uint32_t, 13> kRows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 32, 64};
constexpr unsigned kAsSuits = ~0U;

struct Options {
  std::string model;
  std::string device;  // empty: the CPU
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  unsigned rounds = 5;
  unsigned rows = kRows.back();
  unsigned own_inputs = kAsSuits;
};

constexpr unsigned kPassesPerRound = 5;  // over the memory

constexpr std::uint32_t kPosition = 64;  // where the measured rows begin

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class StepTimer {
 public:
  StepTimer(worker::Backend& backend, std::uint32_t vocabulary, std::uint32_t sequences)
      : backend_(backend), vocabulary_(vocabulary) {
    const std::uint32_t each = worker::pages_for(kPosition + kRows.back());
    for (std::uint32_t s = 0; s < sequences; ++s) {
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

struct Failure {
  int code = 0;
  std::string message;
};

#ifdef ORCH_VULKAN
Result<std::unique_ptr<worker::Backend>, Failure> on_vulkan(worker::Model model, const Options& options,
                                                            std::uint32_t pages) {
  const auto selection = worker::parse_vulkan_selection(options.device);
  if (!selection) return Err{Failure{64, "--device: vulkan, vulkan:INDEX or vulkan:UUID"}};
  worker::VulkanBackendOptions vulkan{
      .device = *selection, .context = 256, .pages = pages, .pipeline_cache_directory = {}, .own_inputs = {}};
  if (options.own_inputs != kAsSuits)
    vulkan.own_inputs = worker::OwnInputLimits{.rows = options.own_inputs, .splits = 1};
  auto backend = worker::create_vulkan_backend(std::move(model), vulkan);
  if (!backend.ok()) return Err{Failure{69, backend.error().message}};
  return std::move(backend).value();
}
#endif

Result<std::unique_ptr<worker::Backend>, Failure> make_backend(worker::Model model, const Options& options,
                                                               std::uint32_t pages) {
#ifdef ORCH_VULKAN
  if (!options.device.empty()) return on_vulkan(std::move(model), options, pages);
#endif
  auto backend = worker::cpu::create_cpu_backend(std::move(model), worker::cpu::best_kernels(),
                                                 {.threads = options.threads, .context = 256, .pages = pages});
  if (!backend.ok()) return Err{Failure{71, backend.error().message}};
  return std::move(backend).value();
}

int fail(const Failure& failure) {
  std::fprintf(stderr, "step_bench: %s\n", failure.message.c_str());
  return failure.code;
}

int time_steps(const Options& options) {
  const auto file = worker::GgufFile::open(options.model);
  if (!file.ok()) return fail({65, file.error().message});
  auto model = worker::load_model(**file, {}, options.threads);
  if (!model.ok()) return fail({65, model.error().message});
  const std::uint32_t vocabulary = model->config.vocabulary;
  const std::uint32_t pages = options.rows * worker::pages_for(kPosition + kRows.back());
  auto backend = make_backend(std::move(model).value(), options, pages);
  if (!backend.ok()) return fail(backend.error());
  std::printf("device %s\n", (*backend)->info().device_name.c_str());
  StepTimer timer(**backend, vocabulary, options.rows);
  std::array<std::vector<double>, kRows.size()> one;
  std::array<std::vector<double>, kRows.size()> many;
  std::size_t sizes = 0;
  while (sizes < kRows.size() && kRows[sizes] <= options.rows) ++sizes;
  for (unsigned round = 0; round < options.rounds; ++round) {  // interleaved, so that a busy moment hits all alike
    for (std::size_t i = 0; i < sizes; ++i) {
      for (int again = 0; again < 5; ++again) {
        one[i].push_back(timer.one_sequence(kRows[i]));
        many[i].push_back(timer.sequences(kRows[i]));
      }
    }
  }
  for (std::size_t i = 0; i < sizes; ++i) {
    std::printf("step %u %.3f %.3f\n", kRows[i], least(one[i]) * 1e3, least(many[i]) * 1e3);
  }
  return 0;
}

bool read_number(std::string_view argument, std::string_view name, unsigned& out, unsigned least = 1) {
  if (!argument.starts_with(name)) return false;
  const std::string_view digits = argument.substr(name.size());
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return error == std::errc() && end == digits.data() + digits.size() && out >= least && out <= 256;
}

int main_of(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--model=")) {
      options.model = argument.substr(8);
#ifdef ORCH_VULKAN
    } else if (argument.starts_with("--device=")) {
      options.device = argument.substr(9);
    } else if (read_number(argument, "--own-inputs=", options.own_inputs, 0)) {
#endif
    } else if (!read_number(argument, "--threads=", options.threads) &&
               !read_number(argument, "--rounds=", options.rounds) && !read_number(argument, "--rows=", options.rows)) {
      return fail({64, "unknown argument " + std::string(argument)});
    }
  }
  if (options.device.empty()) {
    const unsigned passes = kPassesPerRound * options.rounds;
    const Bandwidth bandwidth = read_bandwidth(options.threads, passes);
    std::printf("bandwidth %.0f %.0f %.0f %u\n", bandwidth.best, bandwidth.median, bandwidth.worst, passes);
  }
  return options.model.empty() ? 0 : time_steps(options);
}

}  // namespace
}  // namespace orch::bench

int main(int argc, char** argv) { return orch::bench::main_of(argc, argv); }
