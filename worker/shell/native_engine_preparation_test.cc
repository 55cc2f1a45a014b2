// What becomes of a submission before the engine thread has it: nobody waits for it, and it ends once, whatever comes.
#include <gtest/gtest.h>

#include <thread>

#include "worker/shell/native_engine_fixture.h"

namespace orch::worker::engine_test {
namespace {

// The preparation of job 2 takes until the gate lets it go.
struct SlowWorld {
  SlowWorld() { world.wait_ready(); }
  ~SlowWorld() { gate.open(); }
  Gate gate;
  World world{{.on_preparation = [this](const DispatchId& id) {
    if (id == job(2)) gate.pass();
  }}};
};

TEST(NativeEngine, OC_WORKER_1005_a_slow_preparation_holds_up_neither_its_caller_nor_what_runs) {
  SlowWorld slow;
  slow.gate.allow(0);
  const auto running = slow.world.submit(1, "abc", 400);
  const auto prepared = slow.world.submit(2, "abc", 5);
  const auto next = slow.world.submit(3, "abc", 5);
  running->wait_end();  // this thread has come here, and the engine goes on
  EXPECT_TRUE(running->result_.has_value());
  EXPECT_FALSE(prepared->started_.has_value());
  EXPECT_FALSE(next->started_.has_value()) << "in order";
  slow.gate.open();
  prepared->wait_end();
  next->wait_end();
  EXPECT_TRUE(prepared->result_.has_value());
  EXPECT_TRUE(next->result_.has_value());
}

TEST(NativeEngine, OC_WORKER_1005_a_cancel_ends_what_is_being_prepared_at_once) {
  SlowWorld slow;
  slow.gate.allow(0);
  const auto prepared = slow.world.submit(2, "abc", 5);
  const auto waiting = slow.world.submit(3, "abc", 5);
  slow.world.engine->cancel(job(3));
  waiting->wait_end();
  EXPECT_EQ(waiting->failure_->outcome, Outcome::CANCELED);
  slow.world.engine->cancel(job(2));
  prepared->wait_end();
  EXPECT_EQ(prepared->failure_->outcome, Outcome::CANCELED);
  EXPECT_FALSE(prepared->started_.has_value());
  EXPECT_EQ(slow.world.engine->counters().canceled_total, 2u);
  // Its name is free, and what the first preparation still comes to is nobody's.
  const auto again = slow.world.submit(2, "abcd", 5);
  slow.gate.open();
  again->wait_end();
  EXPECT_TRUE(again->result_.has_value());
  EXPECT_EQ(again->started_, 4u);
}

grammar::Constraint matching(std::string regex) { return {grammar::ConstraintKind::regex, std::move(regex)}; }

// Job 2 is what takes long; the engine says what was prepared by what has ended while it is held.
TEST(NativeEngine, OC_WORKER_1007_what_is_short_waits_for_nothing_long) {
  for (const bool by_size : {false, true}) {
    SlowWorld slow;
    slow.gate.allow(0);
    const auto held = slow.world.submit(2, by_size ? std::string(kSwiftBytesMax + 1, 'x') : "abc", 5,
                                        [&](GenerationRequest& request) {
                                          if (!by_size) request.constraint = matching("[a-z]{3}x");
                                        });
    const auto behind =
        slow.world.submit(3, "abc", 5, [](GenerationRequest& request) { request.constraint = matching("[a-z]{3}y"); });
    const auto swift = slow.world.submit(4, "abc", 5);
    swift->wait_end();
    EXPECT_TRUE(swift->result_.has_value());
    EXPECT_FALSE(behind->started_ || behind->failure_) << "in order among those that may take long";
    slow.gate.open();
    held->wait_end();
    behind->wait_end();
    EXPECT_EQ(held->result_.has_value(), !by_size) << "its text cannot fit";
    EXPECT_TRUE(behind->result_.has_value());
  }
}

TEST(NativeEngine, OC_WORKER_1007_a_constraint_that_is_kept_makes_nothing_long) {
  SlowWorld slow;
  const auto with = [](const char* regex) {
    return [regex](GenerationRequest& request) { request.constraint = matching(regex); };
  };
  slow.world.submit(1, "abc", 5, with("[a-z]{3}x"))->wait_end();
  slow.gate.allow(0);
  const auto held = slow.world.submit(2, "abc", 5, with("[a-z]{3}y"));
  const auto kept = slow.world.submit(3, "abc", 5, with("[a-z]{3}x"));
  kept->wait_end();
  ASSERT_TRUE(kept->result_.has_value());
  EXPECT_EQ(kept->text_.back(), 'x');
  slow.gate.open();
  held->wait_end();
  EXPECT_EQ(held->text_.back(), 'y');
}

TEST(NativeEngine, OC_WORKER_1007_cancel_and_destruction_reach_both_lanes) {
  SlowWorld slow;
  slow.gate.allow(0);
  const auto add = [](GenerationRequest& request) { request.constraint = matching("[a-z]{3}x"); };
  const auto held = slow.world.submit(2, "abc", 5, add);
  const auto canceled = slow.world.submit(3, "abc", 5, add);
  const auto waiting = slow.world.submit(4, "abc", 5, add);
  slow.world.engine->cancel(job(3));
  canceled->wait_end();
  EXPECT_EQ(canceled->failure_->outcome, Outcome::CANCELED);
  std::thread opener([&] {
    held->wait_end();
    waiting->wait_end();
    slow.gate.open();
  });
  slow.world.engine.reset();
  opener.join();
  EXPECT_EQ(held->failure_->outcome, Outcome::CANCELED);
  EXPECT_EQ(waiting->failure_->outcome, Outcome::CANCELED);
}

TEST(PreparationLane, OC_WORKER_1007_is_told_by_what_a_request_says_of_its_size) {
  const auto of_text = [](std::size_t bytes) {
    EnginePrompt prompt;
    prompt.text.assign(bytes, 'x');
    return lane_of(prompt);
  };
  EXPECT_EQ(of_text(kSwiftBytesMax), PreparationLane::swift);
  EXPECT_EQ(of_text(kSwiftBytesMax + 1), PreparationLane::slow);
  const auto of_ids = [](std::size_t ids) {
    EnginePrompt prompt;
    prompt.token_ids.assign(ids, 1);
    return lane_of(prompt);
  };
  EXPECT_EQ(of_ids(kSwiftBytesMax / 4), PreparationLane::swift);
  EXPECT_EQ(of_ids(kSwiftBytesMax / 4 + 1), PreparationLane::slow);
  const auto of_messages = [](std::size_t messages, std::size_t bytes) {
    EnginePrompt prompt;
    prompt.messages.assign(messages, {"user", std::string(bytes, 'x')});
    return lane_of(prompt);
  };
  EXPECT_EQ(of_messages(kSwiftMessagesMax, 1), PreparationLane::swift);
  EXPECT_EQ(of_messages(kSwiftMessagesMax + 1, 1), PreparationLane::slow);
  EXPECT_EQ(of_messages(2, kSwiftBytesMax / 2 - 4), PreparationLane::swift);
  EXPECT_EQ(of_messages(2, kSwiftBytesMax / 2 - 3), PreparationLane::slow) << "roles are rendered too";
  const auto of_score = [](std::size_t items, std::size_t query) {
    ScoreRequest request;
    request.query_text.assign(query, 'x');
    request.item_texts.assign(items, "x");
    return lane_of(request);
  };
  EXPECT_EQ(of_score(64, 255), PreparationLane::swift);
  EXPECT_EQ(of_score(64, 256), PreparationLane::slow) << "the query is read with each item";
  EXPECT_EQ(of_score(65, 1), PreparationLane::slow);
}

TEST(NativeEngine, E5_the_deadline_of_what_is_being_prepared_is_kept) {
  for (const bool constrained_too : {false, true}) {  // in either lane
    SlowWorld slow;
    slow.gate.allow(0);
    const auto prepared = slow.world.submit(2, "abc", 5, [&](GenerationRequest& request) {
      if (constrained_too) request.constraint = matching("[a-z]{3}x");
      request.deadline = Duration::milliseconds(5);
    });
    slow.world.clock_ns += 5'000'000;
    prepared->wait_end();
    EXPECT_EQ(prepared->failure_->outcome, Outcome::DECODE_TIMEOUT);
    EXPECT_EQ(prepared->failure_->field, "deadline_ms");
    slow.gate.open();
  }
}

TEST(NativeEngine, OC_WORKER_1005_a_second_one_of_its_name_is_refused_and_a_cancel_is_the_firsts) {
  SlowWorld slow;
  slow.gate.allow(0);
  const auto first = slow.world.submit(2, "abc", 5);
  const auto second = slow.world.submit(2, "abc", 5);
  second->wait_end();
  EXPECT_EQ(second->failure_->outcome, Outcome::DUPLICATE_ATTEMPT);
  const auto third = slow.world.submit(2, "abc", 5);
  third->wait_end();
  EXPECT_EQ(third->failure_->outcome, Outcome::DUPLICATE_ATTEMPT) << "a refusal frees no name";
  slow.world.engine->cancel(job(2));
  first->wait_end();
  EXPECT_EQ(first->failure_->outcome, Outcome::CANCELED);
  slow.gate.open();
}

TEST(NativeEngine, OC_WORKER_1005_destruction_ends_what_is_being_prepared_and_what_waits_for_it) {
  SlowWorld slow;
  slow.gate.allow(0);
  const auto running = slow.world.submit(1, "abc", 500);
  running->wait_tokens(1);
  const auto prepared = slow.world.submit(2, "abc", 5);
  const auto waiting = slow.world.submit(3, "abc", 5);
  std::thread opener([&] {
    prepared->wait_end();
    waiting->wait_end();
    slow.gate.open();
  });
  slow.world.engine.reset();
  opener.join();
  EXPECT_EQ(prepared->failure_->outcome, Outcome::CANCELED);
  EXPECT_EQ(waiting->failure_->outcome, Outcome::CANCELED);
  running->wait_end();
}

// 512 tokens of one byte each: a longer text is not read, whatever its bytes.
TEST(NativeEngine, OC_ENGINE_1025_a_prompt_that_cannot_fit_is_refused_unread) {
  World world;
  world.wait_ready();
  const auto refused = [&](const std::function<void(GenerationRequest&)>& change) {
    const auto sink = world.submit(1, "", 5, change);
    sink->wait_end();
    return sink->failure_ ? sink->failure_->field : std::string("admitted");
  };
  // The one special token has ten bytes: so many may a token hold.
  EXPECT_EQ(refused([](GenerationRequest& r) { r.prompt.text.assign(5111, 'x'); }), "prompt");
  EXPECT_EQ(refused([](GenerationRequest& r) { r.prompt.text.assign(5110, 'x'); }), "max_tokens") << "counted";
  EXPECT_EQ(refused([](GenerationRequest& r) { r.prompt.token_ids.assign(512, 40); }), "prompt");
  EXPECT_EQ(refused([](GenerationRequest& r) { r.prompt.token_ids.assign(511, 40); }), "max_tokens");
  EXPECT_EQ(refused([](GenerationRequest& r) { r.prompt.token_ids.assign(507, 40); }), "admitted");
}

TEST(NativeEngine, OC_ENGINE_1019_scores_of_a_long_prompt_come_in_parts_and_each_once) {
  World world;
  world.wait_ready();
  std::string prompt;
  while (prompt.size() < 100) prompt += static_cast<char>('a' + prompt.size() % 23);
  const auto sink = world.submit(1, prompt, 2, [](GenerationRequest& request) { request.prompt_log_probs = 0; });
  sink->wait_end();
  ASSERT_EQ(sink->prompt_scores_.size(), 99u);
  for (std::size_t i = 0; i < 99; ++i) EXPECT_EQ(sink->prompt_scores_[i].token.bytes, prompt.substr(i + 1, 1)) << i;
}

}  // namespace
}  // namespace orch::worker::engine_test
