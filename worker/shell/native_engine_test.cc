// The engine thread: what callers of other threads see of generations. Batching itself is tested in core.
#include <gtest/gtest.h>

#include <future>

#include "common/grammar/automaton.h"
#include "common/grammar/compile.h"
#include "worker/shell/native_engine_fixture.h"

namespace orch::worker::engine_test {
namespace {

constexpr std::string_view kPairSchema =
    R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"array","items":{"type":"boolean"}}},)"
    R"("required":["a","b"]})";

TEST(NativeEngine, OC_GRAMMAR_1020_constrained_text_is_of_its_language_whatever_the_logits) {
  World world;
  world.wait_ready();
  auto network = grammar::compile(grammar::ConstraintKind::json_schema, kPairSchema);
  grammar::ByteSet every;
  every.set();
  auto judge = grammar::Automaton::create(network.value(), every);
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
    EXPECT_FALSE(rest->text_.empty());
    expect_rest(*rest, *whole, taken);
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
  std::promise<void> both_posted;  // they are prepared one after another
  std::promise<void> counted;      // the third is kept from the engine until the slot was seen free
  World world({.slots = 1,
               .pages = 16,
               .prepare = [&](RememberingBackend& backend) { backend.before_step = [&] { gate.pass(); }; },
               .on_preparation =
                   [&](const DispatchId& id) {
                     if (id != job(9)) return;
                     both_posted.set_value();
                     counted.get_future().wait();
                   }});
  world.wait_ready();
  gate.allow(0);
  // The engine waits in its first step: the first job holds the only slot when the second one comes.
  const auto running = world.submit(1, "abc", 400);
  const auto refused = world.submit(2, "abc", 10);
  const auto behind = world.submit(9, "abc", 10);
  both_posted.get_future().wait();
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
  counted.set_value();
  behind->wait_end();
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
  expect_rest(*rest, *whole, 20);
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

// A first step that takes a minute is no hang, and who watches knows it before it begins.
TEST(NativeEngine, OC_POOL_3044_the_longest_step_is_predicted_before_there_is_one) {
  World world({.step_ns = 1'000'000, .prefill_tokens_per_second = 8});
  world.wait_ready();
  EXPECT_EQ(world.engine->counters().step_longest_ms, 32'000u) << "256 rows";
  world.submit(1, "hello", 5)->wait_end();
  EXPECT_GT(world.engine->counters().steps_done, 0u);
  EXPECT_EQ(world.engine->counters().step_longest_ms, 32'000u);
  World unmeasured({.step_ns = 3'000'000});
  unmeasured.wait_ready();
  EXPECT_EQ(unmeasured.engine->counters().step_longest_ms, 0u);
  unmeasured.submit(1, "hello", 5)->wait_end();
  EXPECT_EQ(unmeasured.engine->counters().step_longest_ms, 3u);
}

TEST(NativeEngine, OC_NUM_1305_values_that_saturate_are_counted_with_the_step_they_came_in) {
  struct Setup setup;
  setup.prepare = [](RememberingBackend& backend) { backend.before_step = [&backend] { backend.kv_saturated += 3; }; };
  World world(std::move(setup));
  world.wait_ready();
  EXPECT_EQ(world.engine->counters().kv_saturated_total, 0u);
  world.submit(1, "hello", 2)->wait_end();
  const EngineCounters counters = world.engine->counters();
  EXPECT_EQ(counters.steps_done, 2u);
  EXPECT_EQ(counters.kv_saturated_total, 3u * 3) << "the self-test's step is one too";
}

// A backend finds out about its device there; a worker of the CPU read the host's /proc/cpuinfo at each token.
TEST(NativeEngine, OC_NUM_1305_no_step_asks_what_its_device_is) {
  World world;
  world.wait_ready();
  const std::uint32_t at_load = world.backend->info_calls;
  world.submit(1, "hello", 5)->wait_end();
  EXPECT_EQ(world.engine->counters().steps_done, 5u);
  EXPECT_EQ(world.backend->info_calls, at_load);
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

TEST(NativeEngine, OC_DEVICE_1004_a_lost_device_ends_every_job_for_others_to_go_on_and_the_engine) {
  for (const BackendFaultKind kind : {BackendFaultKind::device_lost, BackendFaultKind::out_of_memory}) {
    Gate gate;
    std::promise<void> both_posted;  // they are prepared one after another
    World world({.prepare =
                     [kind, &gate](RememberingBackend& backend) {
                       backend.fault_after_steps = 10;
                       backend.fault = kind;
                       backend.before_step = [&gate] { gate.pass(); };
                     },
                 .on_preparation =
                     [&both_posted](const DispatchId& id) {
                       if (id == job(9)) both_posted.set_value();
                     }});
    world.wait_ready();
    gate.allow(0);
    const auto first = world.submit(1, "abc", 400);
    const auto second = world.submit(2, "abc", 400);
    const auto behind = world.submit(9, "abc", 400);
    both_posted.get_future().wait();
    gate.open();
    first->wait_end();
    second->wait_end();
    for (const auto& sink : {first, second}) {
      EXPECT_EQ(sink->failure_->outcome, Outcome::WORKER_RESET);
      EXPECT_TRUE(sink->failure_->worker_ends);
    }
    const EngineFailure told = world.failures.get_future().get();
    EXPECT_EQ(told.message, "device lost");
    EXPECT_TRUE(told.worker_ends);
    EXPECT_FALSE(world.engine->info().ready);
  }
}

// Another replica would compute the same step: there is nothing to go on with.
TEST(NativeEngine, OC_DEVICE_1004_a_step_that_is_itself_broken_ends_its_jobs_with_INTERNAL) {
  World world({.prepare = [](RememberingBackend& backend) {
    backend.fault_after_steps = 10;
    backend.fault = BackendFaultKind::broken;
  }});
  world.wait_ready();
  const auto sink = world.submit(1, "abc", 400);
  sink->wait_end();
  EXPECT_EQ(sink->failure_->outcome, Outcome::INTERNAL);
  EXPECT_FALSE(sink->failure_->worker_ends);
  EXPECT_EQ(world.failures.get_future().get().outcome, Outcome::INTERNAL);
}

// It has seen no step of that backend, whichever way the last one failed.
TEST(NativeEngine, OC_DEVICE_1004_a_job_that_comes_behind_the_fault_is_handed_back_for_another_worker) {
  for (const auto kind : {BackendFaultKind::device_lost, BackendFaultKind::out_of_memory, BackendFaultKind::broken}) {
    World* at = nullptr;
    std::shared_ptr<Collector> prepared;
    std::shared_ptr<Collector> under_way;
    std::promise<void> second_turn;
    std::promise<void> told;
    World world({.prepare =
                     [&](RememberingBackend& backend) {
                       backend.fault_after_steps = 10;
                       backend.fault = kind;
                       backend.before_step = [&] {
                         if (backend.fault_after_steps > 0) return;
                         prepared = at->submit(5, "abc", 400);
                         under_way = at->submit(6, "abc", 400);
                         second_turn.get_future().wait();
                       };
                     },
                 .on_preparation =
                     [&](const DispatchId& id) {
                       if (id != job(6)) return;
                       second_turn.set_value();
                       told.get_future().wait();
                     }});
    at = &world;
    world.wait_ready();
    const auto aboard = world.submit(1, "abc", 400);
    aboard->wait_end();
    EXPECT_EQ(aboard->failure_->worker_ends, kind != BackendFaultKind::broken);
    world.failures.get_future().get();
    told.set_value();
    const auto late = world.submit(7, "abc", 400);
    for (const auto& sink : {prepared, under_way, late}) {
      sink->wait_end();
      EXPECT_EQ(sink->failure_->outcome, Outcome::WORKER_RESET);
      EXPECT_TRUE(sink->failure_->worker_ends);
      EXPECT_EQ(sink->failure_->message, "device lost");
    }
  }
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
}  // namespace orch::worker::engine_test
