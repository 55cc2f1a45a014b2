// The engine thread over a backend that remembers: what callers of other threads see. Batching itself is tested in
// core.
#include "worker/shell/native_engine.h"

#include <gtest/gtest.h>

#include <limits>

#include <atomic>
#include <condition_variable>
#include <future>

#include "common/grammar/automaton.h"
#include "common/grammar/compile.h"
#include "worker/core/batch_fixture.h"
#include "worker/cpu/cpu_backend.h"
#include "worker/cpu/kernels_scalar.h"
#include "worker/testing/tiny_model.h"
#include "worker/text/utf8.h"

namespace orch::worker {
namespace {

using testing::RememberingBackend;

constexpr auto kPatience = std::chrono::seconds(20);

DispatchId job(std::uint64_t number) { return {{Uuid{0, number}}, 1}; }

// Collects one job's events; waits are on conditions, never on time.
class Collector final : public GenerationSink {
 public:
  void started(std::uint32_t prompt_tokens, std::uint32_t) override {
    change([&] { started_ = prompt_tokens; });
  }
  void prompt_scored(std::vector<TokenLogProbs> log_probs) override {
    change([&] {
      EXPECT_TRUE(ids_.empty());
      prompt_scores_ = std::move(log_probs);
    });
  }
  void tokens(GeneratedTokens tokens) override {
    change([&] {
      EXPECT_TRUE(is_valid_utf8(tokens.text));
      if (ids_.empty()) first_index_ = tokens.index;
      EXPECT_EQ(tokens.index, first_index_ + ids_.size());
      ids_.insert(ids_.end(), tokens.ids.begin(), tokens.ids.end());
      text_ += tokens.text;
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
  void wait_end() {
    wait([this] { return ended(); });
  }
  void wait_tokens(std::size_t count) {
    wait([this, count] { return ids_.size() >= count || ended(); });
  }

  std::optional<std::uint32_t> started_;
  std::vector<std::uint32_t> ids_;
  std::uint32_t first_index_ = 0;
  std::string text_;
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

struct Setup {
  std::uint32_t slots = 4;
  std::uint32_t pages = 64;
  RememberingBackend::Script script = {};
  std::string chat_template = {};
  std::optional<EngineFailure> load_failure = {};
  std::function<void(RememberingBackend&)> prepare = {};
  std::int64_t step_ns = 0;               // a step moves the clock by this
  std::unique_ptr<Backend> instead = {};  // of the remembering one
  std::uint32_t vocabulary = testing::kVocabulary;
};

struct World {
  explicit World(Setup given = {}) : setup(std::move(given)) {
    NativeEngine::Options options;
    options.initial.engine = "native";
    options.clock = [this] { return Instant{clock_ns.load()}; };
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
    model.info.ctx_max = 512;
    model.info.slots = setup.slots;
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

constexpr std::string_view kPairSchema =
    R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"array","items":{"type":"boolean"}}},)"
    R"("required":["a","b"]})";

TEST(NativeEngine, OC_GRAMMAR_1020_constrained_text_is_of_its_language_whatever_the_logits) {
  World world;
  world.wait_ready();
  auto network = grammar::compile(grammar::ConstraintKind::json_schema, kPairSchema);
  grammar::ByteSet every;
  every.set();
  auto judge = grammar::Automaton::create(std::move(network).value(), every);
  ASSERT_TRUE(judge.ok());
  for (std::uint64_t number = 1; number <= 12; ++number) {
    const auto sink = world.submit(number, "prompt", 120, [&](GenerationRequest& request) {
      request.constraint = {grammar::ConstraintKind::json_schema, std::string(kPairSchema)};
      request.temperature = number % 3 == 0 ? 0.0F : 1.5F;
    });
    sink->wait_end();
    ASSERT_TRUE(sink->result_.has_value()) << sink->failure_->message;
    EXPECT_TRUE(judge->accepts(judge->read(judge->start(), sink->text_))) << sink->text_;
  }
}

// M2: ids that were accepted before lead to the same mask, so the text goes on as it would have.
TEST(NativeEngine, OC_GRAMMAR_1022_a_resumed_constrained_job_goes_on_with_the_same_bytes) {
  World world;
  world.wait_ready();
  const auto constrained = [](GenerationRequest& request) {
    request.constraint = {grammar::ConstraintKind::json_schema, std::string(kPairSchema)};
    request.seed = 5;
  };
  const auto whole = world.submit(1, "prompt", 90, constrained);
  whole->wait_end();
  ASSERT_GT(whole->ids_.size(), 12u);
  for (const std::size_t taken : {std::size_t{1}, whole->ids_.size() / 2, whole->ids_.size() - 1}) {
    World other;
    other.wait_ready();
    const auto rest = other.submit(2, "prompt", 90, [&](GenerationRequest& request) {
      constrained(request);
      request.resume_ids.assign(whole->ids_.begin(), whole->ids_.begin() + static_cast<std::ptrdiff_t>(taken));
    });
    rest->wait_end();
    ASSERT_TRUE(rest->result_.has_value()) << rest->failure_->message;
    EXPECT_EQ(rest->ids_,
              std::vector<std::uint32_t>(whole->ids_.begin() + static_cast<std::ptrdiff_t>(taken), whole->ids_.end()));
    EXPECT_TRUE(whole->text_.ends_with(rest->text_));
  }
}

TEST(NativeEngine, OC_GRAMMAR_1032_a_constraint_it_cannot_run_is_refused_with_its_place) {
  World world;
  world.wait_ready();
  const auto refused = world.submit(1, "prompt", 20, [](GenerationRequest& request) {
    request.constraint = {grammar::ConstraintKind::json_schema, R"({"not":{}})"};
  });
  refused->wait_end();
  ASSERT_TRUE(refused->failure_.has_value());
  EXPECT_EQ(refused->failure_->outcome, Outcome::INVALID_PARAMS);
  EXPECT_EQ(refused->failure_->field, "constraint");
  EXPECT_NE(refused->failure_->message.find("#/not"), std::string::npos);
  const auto odd = world.submit(2, "prompt", 20, [](GenerationRequest& request) {
    request.constraint = {grammar::ConstraintKind::regex, "a+"};
    request.resume_ids = {testing::kFirstByte + 'b'};
  });
  odd->wait_end();
  ASSERT_TRUE(odd->failure_.has_value());
  EXPECT_EQ(odd->failure_->outcome, Outcome::INVALID_PARAMS);
}

TEST(NativeEngine, same_request_alone_and_among_others_gives_the_same_ids) {
  World world;
  world.wait_ready();
  std::vector<std::shared_ptr<Collector>> together;
  for (std::uint64_t number = 1; number <= 4; ++number) {
    together.push_back(world.submit(number, std::string(number * 50, 'q'), 30));
  }
  for (const auto& sink : together) sink->wait_end();
  for (std::uint64_t number = 1; number <= 4; ++number) {
    const auto alone = world.submit(number, std::string(number * 50, 'q'), 30);
    alone->wait_end();
    ASSERT_EQ(alone->ids_.size(), 30u);
    EXPECT_EQ(alone->ids_, together[number - 1]->ids_);
  }
}

// A real transformer with random weights on the CPU backend; its vocabulary is wider than the tokenizer's.
std::unique_ptr<Backend> tiny_llama(std::uint32_t vocabulary) {
  testing::TinyShape shape;
  shape.vocabulary = vocabulary;
  auto made = cpu::create_cpu_backend(testing::tiny_model(shape), cpu::scalar_kernels(),
                                      {.threads = 2, .context = 512, .pages = 64});
  ORCH_CHECK(made.ok());
  return std::move(made).value();
}

TEST(NativeEngine, X_a_real_model_gives_the_same_ids_alone_and_in_a_batch) {
  World world({.instead = tiny_llama(261), .vocabulary = 261});
  world.wait_ready();
  const auto submit = [&](std::uint64_t number) {
    return world.submit(number, std::string(number * 40, static_cast<char>('a' + number)), 24);
  };
  std::vector<std::shared_ptr<Collector>> together;
  for (std::uint64_t number = 1; number <= 4; ++number) together.push_back(submit(number));
  for (const auto& sink : together) sink->wait_end();
  for (std::uint64_t number = 4; number >= 1; --number) {
    const auto alone = submit(number);
    alone->wait_end();
    ASSERT_FALSE(alone->ids_.empty());
    EXPECT_EQ(alone->ids_, together[number - 1]->ids_);
  }
  EXPECT_NE(together[0]->ids_, together[1]->ids_);
}

TEST(NativeEngine, cancel_frees_slot_and_pages) {
  Gate gate;
  World world({.slots = 1, .pages = 16, .prepare = [&](RememberingBackend& backend) {
                 backend.before_step = [&] { gate.pass(); };
               }});
  world.wait_ready();
  gate.allow(0);
  // The engine waits in its first step: the first job holds the only slot when the second one comes.
  const auto running = world.submit(1, "abc", 400);
  const auto refused = world.submit(2, "abc", 10);
  gate.allow(5);
  refused->wait_end();
  running->wait_tokens(1);
  EXPECT_EQ(refused->failure_->outcome, Outcome::SLOT_BUSY);
  EXPECT_GT(world.engine->counters().kv_pages_used, 0u);
  world.engine->cancel(job(1));
  gate.open();
  running->wait_end();
  EXPECT_EQ(running->failure_->outcome, Outcome::CANCELED);
  EXPECT_LT(running->ids_.size(), 400u);
  // Whoever is told of the end sees the slot free.
  EXPECT_EQ(world.engine->counters().running, 0u);
  EXPECT_EQ(world.engine->counters().kv_pages_used, 0u);
  EXPECT_EQ(world.engine->counters().canceled_total, 1u);
  const auto next = world.submit(3, "abc", 10);
  next->wait_end();
  EXPECT_TRUE(next->result_.has_value());
  world.engine->cancel(job(3));  // ended: no effect
}

TEST(NativeEngine, L5_a_cancel_stops_the_job_within_one_step) {
  Gate gate;
  World world({.prepare = [&](RememberingBackend& backend) { backend.before_step = [&] { gate.pass(); }; }});
  world.wait_ready();
  gate.allow(5);
  const auto running = world.submit(1, "abc", 400);
  running->wait_tokens(3);
  world.engine->cancel(job(1));
  const std::uint64_t steps = world.engine->counters().steps_done;
  gate.open();
  running->wait_end();
  // The step under way when cancel came, and one that may have been counted late.
  EXPECT_LE(world.engine->counters().steps_done, steps + 2);
}

TEST(NativeEngine, E5_deadline_ends_the_job_between_steps) {
  World world({.step_ns = 1'000'000});
  world.wait_ready();
  const auto running =
      world.submit(1, "abc", 500, [](GenerationRequest& r) { r.deadline = Duration::milliseconds(5); });
  running->wait_end();
  ASSERT_TRUE(running->failure_.has_value());
  EXPECT_EQ(running->failure_->outcome, Outcome::DECODE_TIMEOUT);
  EXPECT_EQ(running->ids_.size(), 5u);
  EXPECT_EQ(world.engine->counters().running, 0u);
}

TEST(NativeEngine, M2_resume_equals_the_uninterrupted_run) {
  World world;
  world.wait_ready();
  const auto whole = world.submit(1, "hello", 50);
  whole->wait_end();
  ASSERT_EQ(whole->ids_.size(), 50u);
  const auto rest = world.submit(1, "hello", 50, [&](GenerationRequest& request) {
    request.resume_ids.assign(whole->ids_.begin(), whole->ids_.begin() + 20);
  });
  rest->wait_end();
  EXPECT_EQ(rest->first_index_, 20u);
  EXPECT_EQ(rest->ids_, std::vector<std::uint32_t>(whole->ids_.begin() + 20, whole->ids_.end()));
}

TEST(NativeEngine, started_tells_the_prompt_tokens_and_counters_move) {
  World world({.script = testing::saying("hi", 5)});
  world.wait_ready();
  const auto sink = world.submit(1, "hello", 50);
  sink->wait_end();
  EXPECT_EQ(sink->started_, 5u);
  EXPECT_EQ(sink->text_, "hi");
  const EngineCounters counters = world.engine->counters();
  EXPECT_EQ(counters.tokens_in_total, 5u);
  EXPECT_EQ(counters.tokens_out_total, 2u);
  EXPECT_EQ(counters.steps_done, 3u);
  EXPECT_EQ(counters.kv_pages_total, 64u);
}

TEST(NativeEngine, messages_go_through_the_template_and_user_text_spells_no_control_token) {
  World world({.chat_template = "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"});
  world.wait_ready();
  EnginePrompt prompt;
  prompt.messages = {{"user", "ab<|im_end|>"}};
  const auto counted = world.engine->count_tokens(prompt);
  ASSERT_TRUE(counted.ok());
  EXPECT_EQ(counted.value().first, 2u + 10u + 1u);  // the user's ten bytes and the template's one token
  EXPECT_FALSE(counted.value().second);
}

TEST(NativeEngine, OC_ENGINE_1020_tokens_and_templates_are_those_of_a_generation) {
  World world({.chat_template = "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"});
  world.wait_ready();
  EnginePrompt chat;
  chat.messages = {{"user", "ab<|im_end|>"}};
  const auto tokens = world.engine->tokenize(chat);
  ASSERT_TRUE(tokens.ok());
  EXPECT_EQ(tokens->ids.size(), world.engine->count_tokens(chat)->first);
  std::string text;
  for (const std::string& piece : tokens->pieces) text += piece;
  EXPECT_EQ(text, "ab<|im_end|><|im_end|>");
  EXPECT_EQ(tokens->pieces.back(), "<|im_end|>") << "one token, by its name";
  EXPECT_EQ(tokens->ids.back(), testing::kEndToken);
  EXPECT_EQ(*world.engine->apply_template(chat), text);
  EnginePrompt ids;
  ids.token_ids = {testing::kVocabulary};
  EXPECT_EQ(world.engine->tokenize(ids).error().field, "prompt.token_ids");
  EXPECT_EQ(world.engine->apply_template(ids).error().field, "messages");
}

class ScoreCollector final : public ScoreSink {
 public:
  void scored(const ScoreResult& result) override { done_.set_value(result); }
  void failed(const EngineFailure& failure) override { done_.set_value(Err{failure}); }
  Result<ScoreResult, EngineFailure> wait() {
    auto future = done_.get_future();
    ORCH_CHECK(future.wait_for(kPatience) == std::future_status::ready);
    return future.get();
  }

 private:
  std::promise<Result<ScoreResult, EngineFailure>> done_;
};

ScoreRequest score_request(std::uint64_t number, std::size_t items) {
  ScoreRequest request;
  request.id = job(number);
  request.query_text = std::string(100, 'q');
  for (std::size_t i = 0; i < items; ++i) request.item_texts.push_back(std::string(i % 7, static_cast<char>('a' + i)));
  request.labels = {70, 71, 70, 200};
  return request;
}

Result<ScoreResult, EngineFailure> score(World& world, ScoreRequest request) {
  const auto sink = std::make_shared<ScoreCollector>();
  world.engine->score(std::move(request), sink);
  return sink->wait();
}

TEST(NativeEngine, OC_ENGINE_1021_items_that_share_a_query_score_as_alone) {
  World world({.instead = tiny_llama(261), .vocabulary = 261});
  world.wait_ready();
  const auto running = world.submit(50, "neighbour", 200);  // generations go on beside it
  const auto together = score(world, score_request(1, 32));
  ASSERT_TRUE(together.ok()) << together.error().message;
  ASSERT_EQ(together->scores.size(), 32u);
  EXPECT_TRUE(together->query_shared);
  EXPECT_GE(together->cached_prompt_tokens, 31u * 96u);
  for (std::size_t item = 0; item < 32; item += 5) {
    World fresh({.instead = tiny_llama(261), .vocabulary = 261});
    fresh.wait_ready();
    ScoreRequest one = score_request(2, 32);
    one.item_texts = {one.item_texts[item]};
    const auto alone = score(fresh, one);
    ASSERT_TRUE(alone.ok());
    EXPECT_EQ(alone->scores[0], together->scores[item]) << item;
    EXPECT_EQ(alone->cached_prompt_tokens, 0u);
  }
  for (const auto& row : together->scores) {
    ASSERT_EQ(row.size(), 4u);
    EXPECT_EQ(row[0], row[2]) << "a label asked for twice";
    EXPECT_LT(row[0] + row[1] + row[3], 1.0);
  }
  ScoreRequest softmax = score_request(3, 32);
  softmax.apply_softmax = true;
  const auto normed = score(world, softmax);
  ASSERT_TRUE(normed.ok());
  for (std::size_t i = 0; i < 32; ++i) {
    const std::vector<double>& row = normed->scores[i];
    EXPECT_NEAR(row[0] + row[1] + row[2] + row[3], 1.0, 1e-12);
    EXPECT_NEAR(row[1] / row[0], together->scores[i][1] / together->scores[i][0], 1e-9);
  }
  ScoreRequest turned = score_request(4, 3);
  turned.item_first = true;
  const auto serial = score(world, turned);
  ASSERT_TRUE(serial.ok());
  EXPECT_FALSE(serial->query_shared);
  world.engine->cancel(job(50));
  running->wait_end();
}

TEST(NativeEngine, OC_ENGINE_1021_bad_requests_for_scores_name_kind_and_field) {
  World world;
  world.wait_ready();
  const auto refusal = [&](auto change) {
    ScoreRequest request = score_request(1, 2);
    change(request);
    const auto scored = score(world, std::move(request));
    return scored.ok() ? std::string("scored") : scored.error().field + " " + scored.error().message.substr(0, 12);
  };
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.query_text.clear(); }), "query empty_query:");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.item_texts.clear(); }), "items empty_items:");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.labels.clear(); }), "label_token_ids empty_label_");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.item_ids = {{1}}; }), "items mixed_input_");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.query_text.clear(), r.query_ids = {1}; }), "items mixed_input_");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.labels = {testing::kVocabulary}; }), "label_token_ids token id 257");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.item_texts.assign(1025, "x"); }), "items 1025 items; ");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.labels.assign(129, 1); }), "label_token_ids 129 labels; ");
  EXPECT_EQ(refusal([](ScoreRequest& r) { r.query_text.assign(600, 'x'); }).substr(0, 10), "max_tokens");
  EXPECT_EQ(world.engine->counters().running, 0u);
}

TEST(NativeEngine, L5_a_cancel_ends_a_request_for_scores) {
  Gate gate;
  World world({.prepare = [&](RememberingBackend& backend) { backend.before_step = [&] { gate.pass(); }; }});
  world.wait_ready();
  gate.allow(2);
  const auto sink = std::make_shared<ScoreCollector>();
  world.engine->score(score_request(1, 500), sink);
  world.engine->cancel(job(1));
  gate.open();
  const auto ended = sink->wait();
  ASSERT_FALSE(ended.ok());
  EXPECT_EQ(ended.error().outcome, Outcome::CANCELED);
  EXPECT_EQ(world.engine->counters().kv_pages_used, 0u);
}

TEST(NativeEngine, OC_ENGINE_1016_a_known_prefix_is_told_and_changes_nothing) {
  World world({.instead = tiny_llama(261), .vocabulary = 261});
  world.wait_ready();
  const auto ask = [&](std::uint64_t number) {
    return world.submit(number, std::string(100, 'p'), 12, [](GenerationRequest& request) {
      request.seed = 4;
      request.log_probs = 2;
      request.frequency_penalty = 0.5F;
    });
  };
  const auto first = ask(1);
  first->wait_end();
  const auto second = ask(2);
  second->wait_end();
  EXPECT_EQ(first->result_->cached_prompt_tokens, 0u);
  EXPECT_EQ(second->result_->cached_prompt_tokens, 96u);
  EXPECT_EQ(second->ids_, first->ids_);
  EXPECT_EQ(second->scores_, first->scores_);
  ASSERT_EQ(first->scores_.size(), first->ids_.size());
  EXPECT_EQ(first->scores_[0].top.size(), 2u);
  EXPECT_EQ(world.engine->counters().cached_prompt_tokens_total, 96u);
}

TEST(NativeEngine, prompts_that_make_no_sense_are_refused_by_field) {
  World world;
  world.wait_ready();
  const auto none = world.submit(1, "", 5);
  none->wait_end();
  EXPECT_EQ(none->failure_->outcome, Outcome::INVALID_PARAMS);
  EXPECT_EQ(none->failure_->field, "prompt");
  const auto chat =
      world.submit(2, "", 5, [](GenerationRequest& request) { request.prompt.messages = {{"user", "x"}}; });
  chat->wait_end();
  EXPECT_EQ(chat->failure_->field, "messages");
  const auto large = world.submit(3, std::string(600, 'x'), 5);
  large->wait_end();
  EXPECT_EQ(large->failure_->outcome, Outcome::CONTEXT_OVERFLOW);
}

TEST(NativeEngine, a_failed_load_is_told_and_refuses_jobs) {
  World world({.load_failure = EngineFailure{Outcome::POOL_UNREADY, "model digest: wrong", "model digest"}});
  EXPECT_EQ(world.failures.get_future().get().message, "model digest: wrong");
  EXPECT_FALSE(world.engine->info().ready);
  EXPECT_EQ(world.engine->info().load_failure->message, "model digest: wrong");
  const auto sink = world.submit(1, "a", 5);
  sink->wait_end();
  EXPECT_EQ(sink->failure_->outcome, Outcome::POOL_UNREADY);
}

TEST(NativeEngine, a_model_whose_first_token_is_not_finite_never_becomes_ready) {
  World world({.script = [](const std::vector<TokenId>&, std::span<float> logits) {
    for (float& logit : logits) logit = std::numeric_limits<float>::quiet_NaN();
  }});
  EXPECT_EQ(world.failures.get_future().get().outcome, Outcome::NUMERIC_FAULT);
  EXPECT_FALSE(world.engine->info().ready);
}

TEST(NativeEngine, a_lost_device_ends_every_job_and_the_engine) {
  World world({.prepare = [](RememberingBackend& backend) { backend.fault_after_steps = 10; }});
  world.wait_ready();
  const auto first = world.submit(1, "abc", 400);
  const auto second = world.submit(2, "abc", 400);
  first->wait_end();
  second->wait_end();
  EXPECT_EQ(first->failure_->outcome, Outcome::INTERNAL);
  EXPECT_EQ(world.failures.get_future().get().message, "device lost");
  EXPECT_FALSE(world.engine->info().ready);
}

TEST(NativeEngine, destruction_ends_every_job) {
  World world;
  world.wait_ready();
  const auto running = world.submit(1, "abc", 500);
  running->wait_tokens(1);
  world.engine.reset();
  running->wait_end();
  // It may have finished by itself just before; it never stays without an end.
  if (!running->result_) EXPECT_EQ(running->failure_->outcome, Outcome::CANCELED);
}

}  // namespace
}  // namespace orch::worker
