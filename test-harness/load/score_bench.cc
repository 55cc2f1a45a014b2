// score_bench --model=FILE [--threads=N] [--items=32] [--rounds=3]
// Scores of items behind one query (OC-ENGINE-1021): one request for all, which computes the query once, against a
// request for each item, which computes it each time. Rows are the tokens that were computed; every round has a query
// of its own and every lone request a tenant of its own, so that nothing is found in the prefix cache of another. A
// line for bench.py:
//   score ITEMS SHARED_ROWS SHARED_MS ALONE_ROWS ALONE_MS     medians of the rounds
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/runtime/clock.h"
#include "worker/core/engine_port.h"
#include "worker/shell/native_engine.h"
#include "worker/shell/native_model.h"
#include "worker/shell/one_shot.h"

namespace orch::bench {
namespace {

using worker::EngineFailure;
using worker::NativeEngine;
using worker::ScoreRequest;
using worker::ScoreResult;

constexpr std::size_t kLabels = 8;

struct Options {
  std::string model;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  unsigned items = 32;
  unsigned rounds = 3;
};

struct Cost {
  std::vector<double> rows;
  std::vector<double> seconds;
};

class Answer final : public worker::ScoreSink {
 public:
  void answered(const ScoreResult& result) override { done_.set_value(result); }
  void failed(const EngineFailure& failure) override { done_.set_value(Err{failure}); }
  Result<ScoreResult, EngineFailure> wait() { return done_.get_future().get(); }

 private:
  std::promise<Result<ScoreResult, EngineFailure>> done_;
};

class Scorer {
 public:
  explicit Scorer(NativeEngine& engine) : engine_(engine) {}

  // All items behind the query of `round`, in one request, or each in its own. Rows and seconds go into `cost`.
  Result<std::vector<std::vector<double>>, EngineFailure> score(unsigned round, unsigned items, bool together,
                                                                Cost& cost) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::vector<double>> scores;
    std::uint64_t rows = 0;
    for (unsigned first = 0; first < items; first += together ? items : 1) {
      const auto sink = std::make_shared<Answer>();
      engine_.score(request(round, first, together ? items : 1), sink);
      auto result = sink->wait();
      if (!result.ok()) return Err{result.error()};
      rows += result->prompt_tokens - result->cached_prompt_tokens;
      scores.insert(scores.end(), result->scores.begin(), result->scores.end());
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    cost.rows.push_back(static_cast<double>(rows));
    cost.seconds.push_back(took.count());
    return scores;
  }

 private:
  ScoreRequest request(unsigned round, unsigned first, unsigned count) {
    ScoreRequest out;
    out.id = {{Uuid{1, ++number_}}, 1};
    out.tenant = "tenant " + std::to_string(number_);
    out.query_text = "Question " + std::to_string(round) + ". ";
    for (int i = 0; i < 12; ++i) out.query_text += "A ship left the harbour at noon and sailed past the lighthouse. ";
    out.query_text += "Which of these fits best? Answer:";
    for (unsigned i = first; i < first + count; ++i)
      out.item_texts.push_back(" the " + std::to_string(i) + "th harbour");
    for (std::uint32_t label = 0; label < kLabels; ++label) out.labels.push_back(100 + label);
    return out;
  }

  NativeEngine& engine_;
  std::uint64_t number_ = 0;
};

int fail(int code, const std::string& message) {
  std::fprintf(stderr, "score_bench: %s\n", message.c_str());
  return code;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int compare(NativeEngine& engine, const Options& options) {
  Scorer scorer(engine);
  Cost shared;
  Cost alone;
  for (unsigned round = 0; round <= options.rounds; ++round) {  // round 0 warms up
    Cost unused;
    const auto one = scorer.score(round, options.items, true, round == 0 ? unused : shared);
    if (!one.ok()) return fail(70, one.error().message);
    const auto each = scorer.score(round, options.items, false, round == 0 ? unused : alone);
    if (!each.ok()) return fail(70, each.error().message);
    if (*one != *each) return fail(70, "scores of one request differ from those of single ones");
  }
  std::printf("score %u %.0f %.3f %.0f %.3f\n", options.items, median(shared.rows), median(shared.seconds) * 1e3,
              median(alone.rows), median(alone.seconds) * 1e3);
  return 0;
}

int run(const Options& options) {
  auto file = worker::GgufFile::open(options.model);
  if (!file.ok()) return fail(65, file.error().message);
  worker::NativeModelOptions native;
  native.name = "model";
  native.backend.device = "cpu";
  native.backend.threads = options.threads;
  native.backend.slots = 4;
  native.backend.context = 1024;
  NativeEngine::Options engine_options;
  engine_options.initial = worker::initial_info(native);
  engine_options.clock = [] { return runtime::now(); };
  auto opened = std::make_shared<std::unique_ptr<worker::GgufFile>>(std::move(file).value());  // a loader is copyable
  NativeEngine engine(
      engine_options,
      [opened, native](const std::function<void(float)>& progress) -> Result<worker::NativeModel, EngineFailure> {
        auto loaded = worker::load_native_model(std::move(*opened), native, progress);
        if (!loaded.ok()) return Err{worker::to_failure(loaded.error())};
        return std::move(loaded).value();
      });
  return worker::wait_ready(engine) ? compare(engine, options) : 70;
}

bool read_number(std::string_view argument, std::string_view name, unsigned& out) {
  if (!argument.starts_with(name)) return false;
  const std::string_view digits = argument.substr(name.size());
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return error == std::errc() && end == digits.data() + digits.size() && out > 0 && out <= 1024;
}

int main_of(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--model=")) {
      options.model = argument.substr(8);
    } else if (!read_number(argument, "--threads=", options.threads) &&
               !read_number(argument, "--items=", options.items) &&
               !read_number(argument, "--rounds=", options.rounds)) {
      return fail(64, "unknown argument " + std::string(argument));
    }
  }
  if (options.model.empty()) return fail(64, "--model is required");
  return run(options);
}

}  // namespace
}  // namespace orch::bench

int main(int argc, char** argv) { return orch::bench::main_of(argc, argv); }
