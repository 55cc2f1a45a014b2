// Purpose: a scripted engine without a model, for tests of everything around one. It always calls itself "mock", names
// no real model digest, and so can pass no gate (DESIGN ruling 17). The same seed gives the same words. Threads: one of
// its own. Ownership: sinks are released after their terminal call; the destructor ends every job.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "adapters/shell/mock_script.h"
#include "common/base/prng.h"
#include "worker/core/engine_port.h"

namespace orch::adapter {

class MockEngine final : public worker::GenerationEngine {
 public:
  struct Options {
    std::string model_name;
    std::uint32_t slots = 4;
    std::uint64_t seed = 0;  // added to each job's own
    MockScript script{};
  };

  explicit MockEngine(Options options);
  ~MockEngine() override;

  worker::EngineInfo info() const override;
  worker::EngineCounters counters() const override;
  void submit(worker::GenerationRequest request, std::shared_ptr<worker::GenerationSink> sink) override;
  void cancel(const DispatchId& id) override;
  bool on_burst_over(std::function<void()> over) override {
    burst_over_ = std::move(over);
    return true;
  }
  Result<std::pair<std::uint32_t, bool>, worker::EngineFailure> count_tokens(
      const worker::EnginePrompt& prompt) override;

 private:
  struct Job {
    worker::GenerationRequest request;
    std::shared_ptr<worker::GenerationSink> sink;
    Prng random;
    Instant submitted;
    Instant next;
    Instant speaks_at = {};  // its prompt is being read until then
    std::uint32_t prompt_tokens = 0;
    std::uint32_t given = 0;
    std::uint32_t length = 0;
    std::string text;
    bool started = false;
    bool canceled = false;
    std::optional<worker::EngineFailure> refusal = {};
  };
  struct Word {
    std::uint32_t id = 0;
    std::string text;
  };

  void run();
  void step(Job& job, Instant now);
  bool fault_strikes(Job& job);
  void give_token(Job& job, Instant now);
  std::uint32_t length_of(Prng& random) const;
  Word next_word(Job& job) const;
  void finish(Job& job, worker::FinishReason reason, Instant now);
  void fail(Job& job, worker::EngineFailure failure);
  template <typename Change>
  void count(Change change);

  const Options options_;
  const std::vector<std::string> script_words_;
  const Instant ready_at_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> burst_over_;  // set before the first submission, which publishes it; may be empty
  bool stopping_ = false;
  worker::EngineCounters counters_;
  std::map<DispatchId, std::unique_ptr<Job>> jobs_;  // a job is touched by the thread only, but for `canceled`
  std::thread thread_;
};

}  // namespace orch::adapter
