#include "adapters/core/llama_cpp.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace orch::adapter {
namespace {

using nlohmann::json;

GenerationRequest text_request() {
  GenerationRequest request;
  request.prompt.text = "hello";
  request.max_tokens = 8;
  request.seed = 7;
  return request;
}

GenerationRequest ids_request() {
  GenerationRequest request = text_request();
  request.prompt.text.clear();
  request.prompt.token_ids = {1, 2, 3};
  return request;
}

std::unique_ptr<Conversation> generation(const GenerationRequest& request) {
  auto made = LlamaCppDialect().generate(request);
  EXPECT_TRUE(made.ok());
  return std::move(made.value());
}

// Begins the decoding exchange of a prompt of ids.
std::unique_ptr<Conversation> decoding() {
  auto conversation = generation(ids_request());
  EXPECT_EQ(conversation->next().path, "/completion");
  conversation->head(200);
  return conversation;
}

const std::string kStream =
    "data: {\"index\":0,\"content\":\" Par\",\"tokens\":[7042],\"stop\":false,\"id_slot\":-1,\"tokens_predicted\":1,"
    "\"tokens_evaluated\":5}\n\n"
    ": ping\n\n"
    "data: {\"index\":0,\"content\":\"\xF0\x9F\x8C\x8B\",\"tokens\":[229],\"stop\":false,\"id_slot\":-1,"
    "\"tokens_predicted\":4,\"tokens_evaluated\":5}\r\n\r\n"
    "data: {\"content\":\"\",\"stop\":true,\"stop_type\":\"limit\",\"tokens_predicted\":4,\"tokens_evaluated\":5,"
    "\"truncated\":false,\"timings\":{\"cache_n\":2,\"prompt_ms\":147.5,\"predicted_ms\":55}}\n\n";

TEST(LlamaCpp, A1_A2_a_stream_split_anywhere_gives_the_same_text_index_and_result) {
  for (std::size_t piece = 1; piece < kStream.size(); piece += piece < 16 ? 1 : 13) {
    const auto conversation = decoding();
    std::vector<Event> events;
    for (std::size_t at = 0; at < kStream.size(); at += piece) {
      conversation->body(std::string_view(kStream).substr(at, piece), events);
    }
    conversation->end(events);
    ASSERT_EQ(events.size(), 4u) << piece;
    EXPECT_EQ(std::get<Started>(events[0]).prompt_tokens, 5u);
    EXPECT_EQ(std::get<Tokens>(events[1]).text, " Par");
    EXPECT_EQ(std::get<Tokens>(events[1]).count, 1u);
    const auto& volcano = std::get<Tokens>(events[2]);
    EXPECT_EQ(volcano.text, "\xF0\x9F\x8C\x8B");
    EXPECT_EQ(volcano.index, 1u);
    EXPECT_EQ(volcano.count, 3u) << "three tokens hide behind one code point";
    const auto& result = std::get<GenerationResult>(events[3]);
    EXPECT_EQ(result.reason, worker::FinishReason::length);
    EXPECT_EQ(result.prompt_tokens, 5u);
    EXPECT_EQ(result.completion_tokens, 4u);
    EXPECT_EQ(result.cached_prompt_tokens, 2u);
    EXPECT_EQ(result.prefill.ms(), 147);
    EXPECT_FALSE(result.estimated);
  }
}

TEST(LlamaCpp, A3_exactly_one_terminal_and_nothing_after_it) {
  const auto conversation = decoding();
  std::vector<Event> events;
  conversation->body(kStream + kStream + "data: [DONE]\n\n", events);
  conversation->end(events);
  EXPECT_EQ(std::count_if(events.begin(), events.end(), is_terminal), 1);
  EXPECT_TRUE(is_terminal(events.back()));
}

TEST(LlamaCpp, A3_a_stream_without_its_final_event_is_upstream_truncated) {
  for (const std::string tail : {"", "data: [DONE]\n\n"}) {
    const auto conversation = decoding();
    std::vector<Event> events;
    conversation->body(kStream.substr(0, kStream.rfind("data:")) + tail, events);
    conversation->end(events);
    const auto& failure = std::get<EngineFailure>(events.back());
    EXPECT_EQ(failure.outcome, Outcome::WORKER_RESET);
    EXPECT_NE(failure.message.find("upstream truncated"), std::string::npos);
    EXPECT_EQ(events.size(), 4u) << "the tokens that came are kept";
  }
}

TEST(LlamaCpp, A4_an_error_object_after_200_ends_the_job_and_keeps_the_tokens) {
  const auto conversation = decoding();
  std::vector<Event> events;
  conversation->body(kStream.substr(0, kStream.find(": ping")), events);
  conversation->body("data: {\"error\":{\"code\":500,\"message\":\"slot lost\",\"type\":\"server_error\"}}\n\n",
                     events);
  conversation->end(events);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(std::get<Tokens>(events[1]).text, " Par");
  EXPECT_NE(std::get<EngineFailure>(events[2]).message.find("slot lost"), std::string::npos);
}

TEST(LlamaCpp, malformed_events_end_the_job_with_WORKER_RESET) {
  for (const std::string bad :
       {"data: {\n\n", "data: 5\n\n", "data: {\"content\":\"x\"}\n\n", "data: {\"stop\":false}\n\n",
        "data: {\"content\":\"\xFF\",\"stop\":false}\n\n", "data: {\"content\":7,\"stop\":false}\n\n"}) {
    const auto conversation = decoding();
    std::vector<Event> events;
    conversation->body(bad, events);
    ASSERT_EQ(events.size(), 1u) << bad;
    EXPECT_EQ(std::get<EngineFailure>(events[0]).outcome, Outcome::WORKER_RESET);
  }
}

TEST(LlamaCpp, A14_an_endless_line_or_body_is_an_error_and_not_memory) {
  const auto conversation = decoding();
  std::vector<Event> events;
  const std::string block(256 * 1024, 'x');
  for (int i = 0; i < 8 && events.empty(); ++i) conversation->body(block, events);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_NE(std::get<EngineFailure>(events[0]).message.find("limit"), std::string::npos);

  const auto tokenizing = generation(text_request());
  tokenizing->next();
  tokenizing->head(200);
  events.clear();
  for (int i = 0; i < 8 && events.empty(); ++i) tokenizing->body(block, events);
  ASSERT_EQ(events.size(), 1u);

  const auto refused = generation(ids_request());
  refused->next();
  refused->head(500);
  events.clear();
  for (int i = 0; i < 8 && events.empty(); ++i) refused->body(block, events);
  ASSERT_EQ(events.size(), 1u);
}

TEST(LlamaCpp, A7_a_refusal_before_the_stream_carries_the_engines_words) {
  const auto conversation = generation(ids_request());
  conversation->next();
  conversation->head(400);
  std::vector<Event> events;
  conversation->body(R"({"error":{"code":400,"message":"request (3001 tokens) exceeds the available context size",)",
                     events);
  conversation->body(R"("type":"exceed_context_size_error"}})", events);
  conversation->end(events);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(std::get<EngineFailure>(events[0]).outcome, Outcome::CONTEXT_OVERFLOW);
}

TEST(LlamaCpp, A11_parameters_are_mapped_and_nothing_is_left_to_the_engines_defaults) {
  GenerationRequest request = ids_request();
  request.temperature = 0;
  request.top_k = 5;
  request.top_p = 0.5F;
  request.min_p = 0.25F;
  request.seed = 0x1'0000'0002ULL;
  request.stop = {"\n\n", "END"};
  const json body = json::parse(generation(request)->next().body);
  EXPECT_EQ(body["prompt"], json({1, 2, 3}));
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["n_predict"], 8);
  EXPECT_EQ(body["temperature"], 0.0);
  EXPECT_EQ(body["top_k"], 5);
  EXPECT_EQ(body["top_p"], 0.5);
  EXPECT_EQ(body["min_p"], 0.25);
  EXPECT_EQ(body["seed"], 3) << "both halves of the seed count";
  EXPECT_EQ(body["stop"], json({"\n\n", "END"}));
  EXPECT_EQ(body["repeat_penalty"], 1.0);
  EXPECT_EQ(body["samplers"], json({"penalties", "temperature", "top_k", "top_p", "min_p"}));
  EXPECT_EQ(body["frequency_penalty"], 0.0);
  EXPECT_FALSE(body.contains("logit_bias"));
  EXPECT_EQ(body["cache_prompt"], false);
  request.seed = 0xFFFF'FFFFULL;
  EXPECT_NE(json::parse(generation(request)->next().body)["seed"], 0xFFFF'FFFFULL) << "means random to the engine";
}

TEST(LlamaCpp, A11_what_it_cannot_honour_is_refused_by_name) {
  GenerationRequest request = ids_request();
  request.resume_ids = {4};
  const auto made = LlamaCppDialect().generate(request);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().outcome, Outcome::INVALID_PARAMS);
  EXPECT_EQ(made.error().field, "resume_ids");
  request = ids_request();
  request.log_probs = 0;
  EXPECT_EQ(LlamaCppDialect().generate(request).error().field, "logprobs");
  request.log_probs.reset();
  request.prompt_log_probs = 2;
  EXPECT_EQ(LlamaCppDialect().generate(request).error().field, "prompt_logprobs");
}

TEST(LlamaCpp, OC_GRAMMAR_1034_constraints_are_passed_on_or_refused_by_name) {
  using grammar::ConstraintKind;
  GenerationRequest request = ids_request();
  const auto body = [&] { return generation(request)->next().body; };
  request.constraint = {ConstraintKind::json_schema, R"({"properties":{"z":{},"a":{}}})"};
  EXPECT_NE(body().find(R"("json_schema":{"properties":{"z":{},"a":{}}})"), std::string::npos)
      << "in the client's order";
  EXPECT_TRUE(json::parse(body()).is_object());
  request.constraint = {ConstraintKind::json_object, {}};
  EXPECT_EQ(json::parse(body())["json_schema"], json::parse(R"({"type":"object"})"));
  request.constraint = {ConstraintKind::gbnf, "root ::= \"a\""};
  EXPECT_EQ(json::parse(body())["grammar"], "root ::= \"a\"");
  request.constraint = {ConstraintKind::regex, "a"};
  EXPECT_EQ(LlamaCppDialect().generate(request).error().outcome, Outcome::INVALID_PARAMS);
  EXPECT_EQ(LlamaCppDialect().generate(request).error().field, "constraint");
  request.constraint = {ConstraintKind::json_schema, R"({},"n_predict":1)"};
  EXPECT_EQ(LlamaCppDialect().generate(request).error().field, "constraint.json_schema");
}

TEST(LlamaCpp, A11_penalties_and_bias_are_mapped) {
  GenerationRequest request = ids_request();
  request.repetition_penalty = 1.5F;
  request.frequency_penalty = 0.5F;
  request.presence_penalty = -0.25F;
  request.logit_bias = {{7, 2.5F}, {9, -100.0F}};
  request.seed = 10;
  request.choice = 2;
  const json body = json::parse(generation(request)->next().body);
  EXPECT_EQ(body["repeat_penalty"], 1.5);
  EXPECT_EQ(body["frequency_penalty"], 0.5);
  EXPECT_EQ(body["presence_penalty"], -0.25);
  EXPECT_EQ(body["repeat_last_n"], 131072) << "the server refuses -1, and 0 switches penalties off";
  EXPECT_EQ(body["logit_bias"], json::parse("[[7, 2.5], [9, -100.0]]"));
  EXPECT_EQ(body["seed"], 12) << "another choice is another draw";
}

TEST(LlamaCpp, plain_text_is_tokenized_first_so_that_it_names_no_control_token) {
  const auto conversation = generation(text_request());
  HttpRequest request = conversation->next();
  EXPECT_EQ(request.path, "/tokenize");
  EXPECT_FALSE(conversation->decoding());
  EXPECT_EQ(json::parse(request.body)["parse_special"], false);
  std::vector<Event> events;
  conversation->head(200);
  conversation->body(R"({"tokens":[28120,)", events);
  conversation->body("905]}", events);
  conversation->end(events);
  EXPECT_TRUE(events.empty());
  request = conversation->next();
  EXPECT_EQ(request.path, "/completion");
  EXPECT_TRUE(conversation->decoding());
  EXPECT_EQ(json::parse(request.body)["prompt"], json({28120, 905}));
}

TEST(LlamaCpp, chat_is_rendered_by_the_models_own_template) {
  GenerationRequest chat = text_request();
  chat.prompt.text.clear();
  chat.prompt.messages = {{"system", "be \"brief\""}, {"user", "h\xC3\xA9llo\n"}};
  const auto conversation = generation(chat);
  HttpRequest request = conversation->next();
  EXPECT_EQ(request.path, "/apply-template");
  EXPECT_EQ(json::parse(request.body)["messages"],
            json::parse(R"([{"role":"system","content":"be \"brief\""},{"role":"user","content":"héllo\n"}])"));
  std::vector<Event> events;
  conversation->head(200);
  conversation->body(R"({"prompt":"<|im_start|>user\nhi"})", events);
  conversation->end(events);
  EXPECT_EQ(json::parse(conversation->next().body)["prompt"], "<|im_start|>user\nhi");
}

TEST(LlamaCpp, a_failing_template_or_tokenizer_ends_the_job) {
  for (const std::string bad : {"", "{}", R"({"tokens":[-1]})", R"({"tokens":["a"]})"}) {
    const auto conversation = generation(text_request());
    conversation->next();
    conversation->head(200);
    std::vector<Event> events;
    conversation->body(bad, events);
    conversation->end(events);
    ASSERT_EQ(events.size(), 1u) << bad;
    EXPECT_EQ(std::get<EngineFailure>(events[0]).outcome, Outcome::WORKER_RESET);
  }
}

TEST(LlamaCpp, A10_counting_renders_and_tokenizes_with_the_engines_own_tokenizer) {
  EnginePrompt prompt;
  prompt.messages = {{"user", "hi"}};
  const auto count = LlamaCppDialect().count(prompt);
  std::vector<Event> events;
  EXPECT_EQ(count->next().path, "/apply-template");
  count->head(200);
  count->body(R"({"prompt":"<|im_start|>user\nhi"})", events);
  count->end(events);
  const HttpRequest tokenize = count->next();
  EXPECT_EQ(tokenize.path, "/tokenize");
  EXPECT_EQ(json::parse(tokenize.body)["parse_special"], true);
  count->head(200);
  count->body(R"({"tokens":[1,2,3,4]})", events);
  count->end(events);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(std::get<Counted>(events[0]).tokens, 4u);
  EXPECT_FALSE(std::get<Counted>(events[0]).estimated);
}

const HttpReply kHealthy{200, R"({"status":"ok"})"};
const HttpReply kProps{200, R"({"default_generation_settings":{"n_ctx":2048},"total_slots":2,"model_alias":"m",
  "model_ftype":"Q4_1","model_path":"/models/m.gguf","chat_template":"{{x}}","build_info":"b1234-abc"})"};
const HttpReply kModels{200, R"({"data":[{"id":"m"}]})"};
const HttpReply kSlots{200, R"([{"id":0,"is_processing":true},{"id":1,"is_processing":false}])"};

TEST(LlamaCpp, A8_ready_tells_version_model_context_and_slots) {
  const EngineView view = LlamaCppDialect().read_probes({kHealthy, kProps, kModels, kSlots});
  EXPECT_EQ(view.state, EngineView::State::ready);
  EXPECT_EQ(view.engine_version, "b1234-abc");
  EXPECT_EQ(view.model_path, "/models/m.gguf");
  EXPECT_EQ(view.model_name, "m");
  EXPECT_EQ(view.quant, "Q4_1");
  EXPECT_EQ(view.ctx_max, 2048u);
  EXPECT_EQ(view.slots, 2u);
  EXPECT_TRUE(view.template_available);
  EXPECT_TRUE(view.slots_visible);
}

TEST(LlamaCpp, A8_loading_dead_and_refused_are_told_apart) {
  using State = EngineView::State;
  const LlamaCppDialect dialect;
  const HttpReply loading{503, R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})"};
  EXPECT_EQ(dialect.read_probes({loading, {}, {}, {}}).state, State::loading);
  EXPECT_EQ(dialect.read_probes({{}, {}, {}, {}}).state, State::dead);
  EXPECT_EQ(dialect.read_probes({}).state, State::dead);
  EXPECT_EQ(dialect.read_probes({kHealthy, {401, "{}"}, kModels, kSlots}).state, State::refused);
  EXPECT_EQ(dialect.read_probes({kHealthy, {200, "nonsense"}, kModels, kSlots}).state, State::dead);
  EXPECT_EQ(dialect.read_probes({kHealthy, {200, "{}"}, kModels, kSlots}).state, State::dead) << "no slots, no context";
}

TEST(LlamaCpp, busy_slots_are_counted_or_unknown_never_guessed) {
  const LlamaCppDialect dialect;
  EXPECT_EQ(dialect.busy_slots(kSlots), 1u);
  EXPECT_EQ(dialect.busy_slots({501, "{}"}), std::nullopt);
  EXPECT_EQ(dialect.busy_slots({200, "{}"}), std::nullopt);
  EXPECT_EQ(dialect.busy_slots({200, R"([{"id":0}])"}), std::nullopt);
  EXPECT_FALSE(dialect.read_probes({kHealthy, kProps, kModels, {501, ""}}).slots_visible);
}

}  // namespace
}  // namespace orch::adapter
