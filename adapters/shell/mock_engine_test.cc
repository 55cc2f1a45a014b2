#include "adapters/shell/mock_engine.h"

#include <gtest/gtest.h>

#include <optional>
#include <sstream>

#include "adapters/shell/recording_sink.h"
#include "common/runtime/clock.h"
#include "worker/shell/self_check.h"

namespace orch::adapter {
namespace {

MockScript script(std::string_view json) {
  auto parsed = MockScript::parse(json);
  EXPECT_TRUE(parsed.ok()) << parsed.error();
  return parsed.ok() ? parsed.value() : MockScript{};
}

std::shared_ptr<RecordingSink> submit(MockEngine& engine, std::uint64_t seed, std::uint32_t max_tokens,
                                      std::vector<std::string> stop = {}) {
  worker::GenerationRequest request;
  request.id = {.job = {Uuid{.hi = 2, .lo = seed}}, .attempt = 1};
  request.prompt.text = "hello";
  request.seed = seed;
  request.max_tokens = max_tokens;
  request.stop = std::move(stop);
  auto sink = std::make_shared<RecordingSink>();
  engine.submit(std::move(request), sink);
  return sink;
}

worker::SelfCheckVerdict self_check(std::string_view json) {
  MockEngine engine({.model_name = "m", .script = script(json)});
  worker::SelfCheck check(engine, 1, runtime::now(), Duration::seconds(1), [] {});
  std::optional<worker::SelfCheckVerdict> verdict;
  EXPECT_TRUE(wait_until([&] { return (verdict = check.advance(runtime::now())).has_value(); }));
  return verdict.value_or(worker::SelfCheckVerdict{});
}

TEST(MockEngine, is_called_mock_whatever_the_script_says) {
  MockEngine engine({.model_name = "llama", .script = script(R"({"model_digest":"sha256:00"})")});
  EXPECT_EQ(engine.info().engine, "mock");
  EXPECT_EQ(engine.info().engine_version, "mock-1");
  EXPECT_EQ(engine.info().accelerator, "external");
  EXPECT_EQ(engine.info().numeric_class, "none");
}

TEST(MockEngine, the_same_seed_gives_the_same_words_and_another_seed_others) {
  MockEngine engine({.model_name = "m", .script = script(R"({"token_delay_ms":0})")});
  MockEngine again({.model_name = "m", .script = script(R"({"token_delay_ms":0})")});
  const auto first = submit(engine, 1, 20);
  const auto same = submit(again, 1, 20);
  const auto other = submit(engine, 2, 20);
  EXPECT_EQ(first->outcome(), "FINISHED");
  EXPECT_EQ(same->outcome(), "FINISHED");
  EXPECT_EQ(other->outcome(), "FINISHED");
  EXPECT_EQ(first->text(), same->text());
  EXPECT_NE(first->text(), other->text());
  EXPECT_EQ(first->result().completion_tokens, 20u);
  EXPECT_EQ(first->result().reason, worker::FinishReason::length);
}

TEST(MockEngine, OC_ADAPT_5084_what_words_cannot_have_is_refused_by_name) {
  MockEngine engine({.model_name = "m", .script = script(R"({"token_delay_ms":0})")});
  const auto field_of = [&](std::uint64_t seed, auto change) {
    worker::GenerationRequest request;
    request.id = {.job = {Uuid{.hi = 2, .lo = seed}}, .attempt = 1};
    request.prompt.text = "hello";
    request.max_tokens = 3;
    change(request);
    auto sink = std::make_shared<RecordingSink>();
    engine.submit(std::move(request), sink);
    EXPECT_EQ(sink->outcome(), "INVALID_PARAMS");
    return sink->failure().field;
  };
  EXPECT_EQ(field_of(1, [](auto& request) { request.log_probs = 1; }), "logprobs");
  EXPECT_EQ(field_of(2, [](auto& request) { request.prompt_log_probs = 0; }), "prompt_logprobs");
  EXPECT_EQ(field_of(3, [](auto& request) { request.presence_penalty = 1; }), "presence_penalty");
  EXPECT_EQ(field_of(4, [](auto& request) { request.repetition_penalty = 2; }), "repetition_penalty");
  EXPECT_EQ(field_of(5, [](auto& request) { request.logit_bias = {{1, 1}}; }), "logit_bias");
}

TEST(MockEngine, plays_a_text_and_honours_stop_strings) {
  MockEngine engine({.model_name = "m", .script = script(R"({"text":"one two three","token_delay_ms":0})")});
  const auto whole = submit(engine, 1, 20);
  EXPECT_EQ(whole->outcome(), "FINISHED");
  EXPECT_EQ(whole->text(), "one two three");
  EXPECT_EQ(whole->result().reason, worker::FinishReason::stop);
  const auto cut = submit(engine, 2, 20, {"two"});
  EXPECT_EQ(cut->outcome(), "FINISHED");
  EXPECT_EQ(cut->text(), "one ");
}

TEST(MockEngine, says_a_text_as_often_as_asked) {
  MockEngine engine({.model_name = "m", .script = script(R"({"text":"a b","repeat":3,"token_delay_ms":0})")});
  const auto sink = submit(engine, 1, 20);
  EXPECT_EQ(sink->outcome(), "FINISHED");
  EXPECT_EQ(sink->text(), "a b a b a b");
}

TEST(MockEngine, says_the_clock_when_asked) {
  MockEngine engine({.model_name = "m", .script = script(R"({"clock":true,"repeat":2,"token_delay_ms":0})")});
  const std::int64_t before = runtime::now().ns;
  const auto sink = submit(engine, 1, 20);
  EXPECT_EQ(sink->outcome(), "FINISHED");
  std::istringstream said(sink->text());
  std::int64_t first = 0;
  std::int64_t second = 0;
  said >> first >> second;
  EXPECT_LE(before, first);
  EXPECT_LT(first, second);
  EXPECT_LE(second, runtime::now().ns);
}

TEST(MockEngine, fails_after_the_scripted_token) {
  MockEngine engine(
      {.model_name = "m", .script = script(R"({"text":"a b c d","fault":"fail","fault_after":2,"token_delay_ms":0})")});
  const auto sink = submit(engine, 1, 20);
  EXPECT_EQ(sink->outcome(), "WORKER_RESET");
  EXPECT_EQ(sink->text(), "a b");
}

TEST(MockEngine, hangs_until_it_is_cancelled) {
  MockEngine engine({.model_name = "m", .script = script(R"({"fault":"hang","fault_after":1,"token_delay_ms":0})")});
  const auto sink = submit(engine, 1, 20);
  ASSERT_TRUE(sink->wait_tokens());
  engine.cancel({.job = {Uuid{.hi = 2, .lo = 1}}, .attempt = 1});
  EXPECT_EQ(sink->outcome(), "CANCELED");
  EXPECT_EQ(engine.counters().running, 0u);
}

TEST(MockEngine, a_sound_one_passes_the_self_check_and_each_scripted_fault_fails_it) {
  const auto sound = self_check("{}");
  EXPECT_TRUE(sound.decoded && sound.cancel_freed && sound.counters_moved) << sound.detail;
  EXPECT_FALSE(self_check(R"({"fault":"no_decode"})").decoded);
  const auto deaf = self_check(R"({"fault":"cancel_ignored"})");
  EXPECT_TRUE(deaf.decoded);
  EXPECT_FALSE(deaf.cancel_freed);
  const auto leaky = self_check(R"({"fault":"slot_leaked"})");
  EXPECT_TRUE(leaky.decoded);
  EXPECT_FALSE(leaky.cancel_freed);
  const auto frozen = self_check(R"({"fault":"counters_frozen"})");
  EXPECT_TRUE(frozen.decoded);
  EXPECT_FALSE(frozen.counters_moved);
}

TEST(MockEngine, a_script_with_a_typo_is_refused_by_name) {
  for (const std::string_view bad : {R"({"falt":"die"})", R"({"fault":"dye"})", R"({"load_ms":-1})", "[]", "{"}) {
    EXPECT_FALSE(MockScript::parse(bad).ok()) << bad;
  }
  EXPECT_NE(MockScript::parse(R"({"falt":"die"})").error().find("falt"), std::string::npos);
}

}  // namespace
}  // namespace orch::adapter
