// A NativeEngine over a backend that remembers, for tests of what callers of other threads see.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <limits>

#include "worker/core/batch_fixture.h"
#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/kernels_scalar.h"
#include "worker/shell/native_engine.h"
#include "worker/testing/tiny_model.h"
#include "worker/text/utf8.h"

namespace orch::worker::engine_test {

using testing::RememberingBackend;

inline constexpr auto kPatience = std::chrono::seconds(20);

inline DispatchId job(std::uint64_t number) { return {{Uuid{0, number}}, 1}; }

// Collects one job's events; waits are on conditions, never on time.
class Collector final : public GenerationSink {
 public:
  void started(std::uint32_t prompt_tokens, std::uint32_t cached_prompt_tokens) override {
    change([&] {
      EXPECT_FALSE(started_ || ended());
      started_ = prompt_tokens;
      started_cached_ = cached_prompt_tokens;
    });
  }
  void prompt_scored(std::vector<TokenLogProbs> log_probs) override {
    change([&] {
      EXPECT_TRUE(ids_.empty());
      prompt_scores_.insert(prompt_scores_.end(), log_probs.begin(), log_probs.end());
    });
  }
  void tokens(GeneratedTokens tokens) override {
    change([&] {
      EXPECT_TRUE(is_valid_utf8(tokens.text));
      if (ids_.empty()) first_index_ = tokens.index;
      EXPECT_EQ(tokens.index, first_index_ + ids_.size());
      ids_.insert(ids_.end(), tokens.ids.begin(), tokens.ids.end());
      text_ += tokens.text;
      parts_.push_back(tokens.text);
      scores_.insert(scores_.end(), tokens.log_probs.begin(), tokens.log_probs.end());
    });
  }
  void finished(const GenerationResult& result) override {
    change([&] {
      EXPECT_FALSE(ended());
      result_ = result;
    });
  }
  void failed(const EngineFailure& failure) override {
    change([&] {
      EXPECT_FALSE(ended());
      failure_ = failure;
    });
  }
  bool is_started() {
    const std::lock_guard lock(mutex_);
    return started_.has_value();
  }
  void wait_started() {
    wait([this] { return started_.has_value(); });
  }
  void wait_end() {
    wait([this] { return ended(); });
  }
  void wait_tokens(std::size_t count) {
    wait([this, count] { return ids_.size() >= count || ended(); });
  }

  std::optional<std::uint32_t> started_;
  std::uint32_t started_cached_ = 0;
  std::vector<std::uint32_t> ids_;
  std::uint32_t first_index_ = 0;
  std::string text_;
  std::vector<std::string> parts_;  // of it, one for each token and one for what the end released
  std::vector<TokenLogProbs> scores_;
  std::vector<TokenLogProbs> prompt_scores_;
  std::optional<GenerationResult> result_;
  std::optional<EngineFailure> failure_;

 private:
  bool ended() const { return result_ || failure_; }
  template <typename F>
  void change(F apply) {
    {
      const std::lock_guard lock(mutex_);
      apply();
    }
    changed_.notify_all();
  }
  template <typename F>
  void wait(F done) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, kPatience, done));
  }
  std::mutex mutex_;
  std::condition_variable changed_;
};

// An attempt that goes on behind the first `cut` tokens tells what is left of the whole, and ends like it (M2).
inline void expect_rest(const Collector& rest, const Collector& whole, std::size_t cut) {
  const auto from = static_cast<std::ptrdiff_t>(cut);
  EXPECT_EQ(rest.ids_, std::vector<std::uint32_t>(whole.ids_.begin() + from, whole.ids_.end()));
  EXPECT_EQ(rest.parts_, std::vector<std::string>(whole.parts_.begin() + from, whole.parts_.end()));
  ASSERT_TRUE(rest.result_ && whole.result_);
  EXPECT_EQ(rest.result_->reason, whole.result_->reason);
  EXPECT_EQ(rest.result_->prompt_tokens, whole.result_->prompt_tokens);
  EXPECT_EQ(rest.result_->completion_tokens, whole.result_->completion_tokens);
}

struct Setup {
  std::uint32_t slots = 4;
  std::uint32_t pages = 64;
  RememberingBackend::Script script = {};
  std::string chat_template = {};
  std::optional<EngineFailure> load_failure = {};
  std::function<void(RememberingBackend&)> prepare = {};
  std::int64_t step_ns = 0;  // a step moves the clock by this
  std::function<void(const DispatchId&)> on_preparation = {};
  std::unique_ptr<Backend> instead = {};  // of the remembering one
  std::uint32_t vocabulary = testing::kVocabulary;
  std::uint32_t embedding = 0;
  double prefill_tokens_per_second = 0;
  std::optional<Pooling> pooling = Pooling::last;
};

struct World {
  explicit World(Setup given = {}) : setup(std::move(given)) {
    NativeEngine::Options options;
    options.initial.engine = "native";
    options.clock = [this] { return Instant{clock_ns.load()}; };
    options.on_preparation = setup.on_preparation;
    options.on_failure = [this](const EngineFailure& failure) { failures.set_value(failure); };
    engine =
        std::make_unique<NativeEngine>(std::move(options), [this](const auto& progress) { return load(progress); });
  }
  Result<NativeModel, EngineFailure> load(const std::function<void(float)>& progress) {
    if (setup.load_failure) return Err{*setup.load_failure};
    progress(0.5F);
    NativeModel model;
    auto made = std::make_unique<RememberingBackend>(setup.pages, 256, setup.script);
    backend = made.get();
    if (setup.step_ns > 0) made->before_step = [this] { clock_ns += setup.step_ns; };
    if (setup.prepare) setup.prepare(*made);
    model.backend = setup.instead ? std::move(setup.instead) : std::move(made);
    model.tokenizer = std::make_shared<const Tokenizer>(testing::byte_tokenizer());
    if (!setup.chat_template.empty()) {
      auto chat = ChatTemplate::create(setup.chat_template, {});
      ORCH_CHECK(chat.ok());
      model.chat_template = std::make_shared<const ChatTemplate>(std::move(chat.value()));
    }
    model.vocabulary = setup.vocabulary;
    model.embedding = setup.embedding;
    model.pooling = setup.pooling;
    model.info.ctx_max = 512;
    model.info.slots = setup.slots;
    model.info.prefill_tokens_per_second = setup.prefill_tokens_per_second;
    model.info.template_available = model.chat_template != nullptr;
    return model;
  }
  void wait_ready() {
    while (!engine->info().ready) {
      ASSERT_FALSE(engine->info().load_failure.has_value());
      std::this_thread::yield();
    }
  }
  std::shared_ptr<Collector> submit(std::uint64_t number, std::string text, std::uint32_t max_tokens,
                                    const std::function<void(GenerationRequest&)>& change = {}) {
    GenerationRequest request;
    request.id = job(number);
    request.prompt.text = std::move(text);
    request.max_tokens = max_tokens;
    request.temperature = 0.8F;
    request.seed = number;
    if (change) change(request);
    auto sink = std::make_shared<Collector>();
    engine->submit(std::move(request), sink);
    return sink;
  }

  Setup setup;
  std::atomic<std::int64_t> clock_ns{1};
  std::promise<EngineFailure> failures;
  RememberingBackend* backend = nullptr;
  std::unique_ptr<NativeEngine> engine;  // last: its thread uses all of the above
};

// Holds every step until it is let go, so that a test can act between steps.
struct Gate {
  // This many more steps may pass; then the engine waits.
  void allow(std::uint64_t steps) {
    const std::lock_guard lock(mutex);
    allowed = steps;
    changed.notify_all();
  }
  void open() { allow(std::numeric_limits<std::uint64_t>::max()); }
  void pass() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return allowed > 0; });
    if (allowed != std::numeric_limits<std::uint64_t>::max()) --allowed;
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t allowed = std::numeric_limits<std::uint64_t>::max();  // open until a test says otherwise
};

// A real transformer with random weights on the CPU backend; its vocabulary is wider than the tokenizer's.
inline std::unique_ptr<Backend> tiny_llama(std::uint32_t vocabulary) {
  testing::TinyShape shape;
  shape.vocabulary = vocabulary;
  auto made = cpu::create_cpu_backend(testing::tiny_model(shape), cpu::scalar_kernels(),
                                      {.threads = 2, .context = 512, .pages = 64});
  ORCH_CHECK(made.ok());
  return std::move(made).value();
}

}  // namespace orch::worker::engine_test
