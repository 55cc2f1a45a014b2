#include "worker/shell/one_shot.h"

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <future>
#include <iostream>
#include <mutex>
#include <optional>
#include <thread>

namespace orch::worker {

namespace {

// Returns the exit code.
int say(const EngineFailure& failure) {
  std::fprintf(stderr, "%s: %s\n", std::string(outcome_row(failure.outcome).code).c_str(), failure.message.c_str());
  return failure.outcome == Outcome::INVALID_PARAMS || failure.outcome == Outcome::CONTEXT_OVERFLOW ? 64 : 70;
}

class VectorSink final : public EmbedSink {
 public:
  void answered(const EmbedResult& result) override { done_.set_value(result); }
  void failed(const EngineFailure& failure) override { done_.set_value(Err{failure}); }
  Result<EmbedResult, EngineFailure> wait() { return done_.get_future().get(); }

 private:
  std::promise<Result<EmbedResult, EngineFailure>> done_;
};

class PrintingSink final : public GenerationSink {
 public:
  void started(std::uint32_t, std::uint32_t) override {}
  void tokens(GeneratedTokens tokens) override {
    std::fwrite(tokens.text.data(), 1, tokens.text.size(), stdout);
    std::fflush(stdout);
  }
  void finished(const GenerationResult& result) override {
    std::fputc('\n', stdout);
    const double seconds = result.decode.ms_double() / 1000;
    // The first token belongs to the prefill.
    const double decoded = result.completion_tokens > 1 ? result.completion_tokens - 1.0 : 0.0;
    std::fprintf(stderr, "finish %s, prompt %u tokens in %.1f ms, %u tokens, decode %.1f ms (%.1f tokens/s)\n",
                 result.reason == FinishReason::stop ? "stop" : "length", result.prompt_tokens,
                 result.prefill.ms_double(), result.completion_tokens, result.decode.ms_double(),
                 seconds > 0 ? decoded / seconds : 0.0);
    end(0);
  }
  void failed(const EngineFailure& failure) override { end(say(failure)); }
  int wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return code_.has_value(); });
    return *code_;
  }

 private:
  void end(int code) {
    {
      const std::lock_guard lock(mutex_);
      code_ = code;
    }
    ended_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<int> code_;
};

}  // namespace

bool wait_ready(const GenerationEngine& engine) {
  for (;;) {
    const EngineInfo info = engine.info();
    if (info.ready) return true;
    if (info.load_failure) {
      std::fprintf(stderr, "%s\n", info.load_failure->message.c_str());
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

int generate_once(GenerationEngine& engine, GenerationRequest request) {
  const auto sink = std::make_shared<PrintingSink>();
  engine.submit(std::move(request), sink);
  return sink->wait();
}

int embed_lines(GenerationEngine& engine, std::optional<Pooling> pooling) {
  std::uint64_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    EmbedRequest request;
    request.id = {{Uuid{0, ++number}}, 1};
    request.prompt.text = line;
    request.pooling = pooling;
    const auto sink = std::make_shared<VectorSink>();
    engine.embed(std::move(request), sink);
    const auto made = sink->wait();
    if (!made.ok()) return say(made.error());
    for (const float value : made->embedding) std::printf("%.9g ", static_cast<double>(value));
    std::printf("\n");
  }
  return 0;
}

}  // namespace orch::worker
