// The bytes clients see: SSE data, OpenAI objects, error envelopes and their headers.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "orchestratord/shell/event_text.h"
#include "orchestratord/shell/failure_reply.h"
#include "orchestratord/shell/log_prob_text.h"

namespace orch::gateway {
namespace {

using nlohmann::json;

std::string transcript(const decltype(StreamEvent::body)& body) {
  std::string data;
  ServedBy served_by;
  served_by.accelerator = "vulkan";
  served_by.numeric_class = "X";
  const std::string name(append_task_event(data, StreamEvent{1, body}, served_by));
  return name + " " + data;
}

Failure full_queue() {
  Failure failure;
  failure.outcome = Outcome::ADMISSION_REJECT;
  failure.message = "queue is full";
  failure.retry_after = Duration::microseconds(1'200'400);
  failure.policy_label = "reject";
  return failure;
}

std::string header(const runtime::HttpResponse& response, std::string_view name) {
  std::string found;
  for (const auto& field : response.headers) {
    if (field.name == name) found += found.empty() ? field.value : "," + field.value;
  }
  return found;
}

TEST(EventText, ORCH_2002_task_events) {
  EXPECT_EQ(transcript(StartedEvent{3, Duration::milliseconds(250)}),
            R"(started {"queue_position":3,"predicted_start_ms":250})");
  EXPECT_EQ(transcript(StartedEvent{3, Duration::milliseconds(250), true, 0.75}),
            R"(started {"queue_position":3,"predicted_start_ms":250,"estimated":true,"on_time_probability":0.75})");
  EXPECT_EQ(transcript(TokenEvent{7, {1}, "a\"\n\xC3\xA9"}), "token {\"t\":\"a\\\"\\n\xC3\xA9\",\"i\":7,\"ids\":[1]}");
  EXPECT_EQ(transcript(MetricsEvent{2}), R"(metrics {"queue_depth":2})");
  EXPECT_EQ(transcript(MetricsEvent{2, true, {3, 40, Duration::milliseconds(5), 1'500'000'000}}),
            R"(metrics {"queue_depth":2,"preempted":true,"turns_budget_remaining":3,"tokens_budget_remaining":40,)"
            R"("time_budget_remaining_ms":5,"cost_budget_remaining":1.5})");
  MetricsEvent warm{1};
  warm.kv_warmth = false;
  EXPECT_EQ(transcript(warm), R"(metrics {"queue_depth":1,"kv_warmth":false})");
  EndEvent end;
  end.tokens_out = 16;
  end.decode = Duration::microseconds(12'900);
  EXPECT_EQ(transcript(end), R"(end {"tokens_out":16,"decode_ms":12,"accelerator":"vulkan","numeric_class":"X"})");
  Failure reset;
  reset.outcome = Outcome::WORKER_RESET;
  reset.message = "worker died";
  reset.engine = "native";
  EXPECT_EQ(transcript(ErrorEvent{reset}),
            R"(error {"code":"WORKER_RESET","message":"worker died","engine":"native","retriable":true})");
  EXPECT_EQ(transcript(ErrorEvent{full_queue()}),
            R"(error {"code":"ADMISSION_REJECT","message":"queue is full","retriable":true,"retry_after_ms":1201})");
}

// A newline in a token must stay inside its JSON string: in SSE it would end the event.
TEST(EventText, no_token_text_can_break_out_of_its_line) {
  for (const char* text : {"\n", "\r", "\r\n\r\n", "\ndata: [DONE]\n\n"})
    EXPECT_EQ(transcript(TokenEvent{0, {}, text}).find_first_of("\r\n"), std::string::npos);
}

TEST(EventText, chat_chunk_bytes) {
  const ChatIdentity identity{"chatcmpl-1", "m", 1700000000};
  const std::string head =
      R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":)";
  std::string out;
  append_chat_role_chunk(out, identity, false);
  EXPECT_EQ(out, head + R"([{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]})");
  out.clear();
  append_chat_text_chunk(out, identity, "x\"", true);
  EXPECT_EQ(out, head + R"([{"index":0,"delta":{"content":"x\""},"finish_reason":null}],"usage":null})");
  out.clear();
  append_chat_finish_chunk(out, identity, FinishReason::length, false);
  EXPECT_EQ(out, head + R"([{"index":0,"delta":{},"finish_reason":"length"}]})");
  out.clear();
  append_chat_usage_chunk(out, identity, {3, 4, 2});
  EXPECT_EQ(out, head + R"([],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,)"
                        R"("prompt_tokens_details":{"cached_tokens":2}}})");
}

TEST(EventText, a_whole_completion_parses_and_counts) {
  std::string out;
  append_chat_completion(out, {"chatcmpl-1", "m", 1}, {{"hello"}}, {5, 6, 4});
  const json body = json::parse(out);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "hello");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["total_tokens"], 11);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
  EXPECT_FALSE(body["choices"][0].contains("logprobs"));
}

std::vector<TokenLogProbs> scored_euro() {
  // The first byte of a code point: the text of such a token is no text.
  return {{{7, -0.5F, "\xE2"}, {{7, -0.5F, "\xE2"}, {9, -1.25F, "a\""}}}};
}
constexpr char kScoredEuro[] =
    R"([{"token":"\uFFFD","logprob":-0.5,"bytes":[226],"top_logprobs":[)"
    R"({"token":"\uFFFD","logprob":-0.5,"bytes":[226]},{"token":"a\"","logprob":-1.25,"bytes":[97,34]}]}])";

TEST(EventText, OC_OAI_1010_log_probabilities_are_those_of_the_openai_api) {
  const ChatIdentity identity{"chatcmpl-1", "m", 1, true};
  std::string out;
  const std::vector<TokenLogProbs> scores = scored_euro();
  append_chat_text_chunk(out, identity, "x", false, 2, {&scores});
  const json chunk = json::parse(out);
  EXPECT_EQ(chunk["choices"][0]["index"], 2);
  EXPECT_EQ(chunk["choices"][0]["delta"]["content"], "x");
  EXPECT_EQ(chunk["choices"][0]["logprobs"]["content"], json::parse(kScoredEuro));
  out.clear();
  append_chat_completion(out, identity,
                         {{"x", FinishReason::stop, true, scores}, {"y", FinishReason::length, true, {}}}, {1, 2, 0});
  const json whole = json::parse(out);
  EXPECT_EQ(whole["choices"][0]["logprobs"]["content"], json::parse(kScoredEuro));
  EXPECT_EQ(whole["choices"][1]["logprobs"]["content"], json::array());
  EXPECT_EQ(whole["choices"][1]["index"], 1);
  EXPECT_EQ(whole["choices"][1]["finish_reason"], "length");
}

TEST(EventText, OC_OAI_1013_a_text_is_answered_by_text_completions) {
  ChatIdentity identity{answer_id(AnswerForm::text, "7"), "m", 1};
  identity.form = AnswerForm::text;
  std::string out;
  append_chat_text_chunk(out, identity, "x\n", true, 2);
  EXPECT_EQ(out,
            R"({"id":"cmpl-7","object":"text_completion","created":1,"model":"m","choices":[{"index":2,"text":"x\n",)"
            R"("logprobs":null,"finish_reason":null}],"usage":null})");
  out.clear();
  append_chat_finish_chunk(out, identity, FinishReason::length, false, 2);
  EXPECT_EQ(out, R"({"id":"cmpl-7","object":"text_completion","created":1,"model":"m","choices":[{"index":2,"text":"",)"
                 R"("logprobs":null,"finish_reason":"length"}]})");
  out.clear();
  append_chat_usage_chunk(out, identity, {3, 2, 1});
  EXPECT_EQ(json::parse(out)["object"], "text_completion");
  EXPECT_EQ(json::parse(out)["usage"]["total_tokens"], 5);
  out.clear();
  append_chat_completion(out, identity, {{"x", FinishReason::stop}}, {3, 2, 1});
  const json whole = json::parse(out);
  EXPECT_EQ(whole["object"], "text_completion");
  EXPECT_EQ(whole["choices"], json::parse(R"([{"index": 0, "text": "x", "logprobs": null, "finish_reason": "stop"}])"));
}

TEST(EventText, OC_OAI_1014_log_probabilities_of_a_text_name_every_token) {
  ChatIdentity identity{"cmpl-7", "m", 1, true, AnswerForm::text};
  // A euro sign in two tokens, then one with a twin of the same text and an alternative.
  const std::vector<TokenLogProbs> scores{{{1, -0.5F, "\xe2\x82"}, {{1, -0.5F, "\xe2\x82"}, {9, -2.0F, "b"}}},
                                          {{2, -0.25F, "\xac"}, {}},
                                          {{3, -1.5F, "\xc3\xa9t"}, {{4, -1.0F, "a"}, {5, -1.25F, "\xc3\xa9t"}}}};
  const json want = json::parse(R"({
    "tokens": ["bytes:\\xe2\\x82", "bytes:\\xac", "\u00e9t"],
    "token_logprobs": [-0.5, -0.25, -1.5],
    "top_logprobs": [{"bytes:\\xe2\\x82": -0.5, "b": -2.0}, {"bytes:\\xac": -0.25}, {"\u00e9t": -1.5, "a": -1.0}],
    "text_offset": [10, 11, 11]})");
  std::string out;
  append_chat_text_chunk(out, identity, "x", false, 0, {&scores, 10});
  EXPECT_EQ(json::parse(out)["choices"][0]["logprobs"], want);
  EXPECT_EQ(characters(scores), 3U);
  out.clear();
  append_chat_completion(out, identity, {{"x", FinishReason::stop, true, {scores[0]}}, {"y"}}, {1, 2, 0});
  const json whole = json::parse(out);
  EXPECT_EQ(whole["choices"][0]["logprobs"]["text_offset"], json::parse("[0]"));
  EXPECT_EQ(whole["choices"][1]["logprobs"], nullptr);
}

TEST(EventText, OC_OAI_1010_task_tokens_carry_them_too) {
  const std::string data = transcript(TokenEvent{0, {7}, "x", scored_euro()});
  EXPECT_EQ(json::parse(data.substr(6))["logprobs"], json::parse(kScoredEuro));
}

TEST(FailureReply, ORCH_2007_headers_and_body_of_a_429_agree) {
  const auto response = failure_reply(full_queue(), Envelope::orch_queue);
  EXPECT_EQ(response.status, 429);
  EXPECT_EQ(header(response, "Retry-After"), "2");
  EXPECT_EQ(header(response, "X-Backoff-Ms"), "1201");
  const json body = json::parse(response.body);
  EXPECT_EQ(body["retry_after_ms"], 1201);
  EXPECT_EQ(body["policy_label"], "reject");
  EXPECT_EQ(body["retriable"], true);
  Failure soon = full_queue();
  soon.retry_after = Duration{};
  EXPECT_EQ(header(failure_reply(soon, Envelope::orch_queue), "Retry-After"), "1");
}

// Status, OpenAI type and the headers of every refusal a client can get, written down a second time: what a client
// switches on must not move with the table it is generated from.
TEST(FailureReply, OC_CTRL_2030_every_refusal_keeps_its_status_type_and_headers) {
  struct Row {
    Outcome outcome;
    int status;
    const char* type;
    bool retriable;
  };
  constexpr const char* kInvalid = "invalid_request_error";
  constexpr const char* kServer = "server_error";
  const Row rows[] = {{Outcome::ADMISSION_REJECT, 429, "rate_limit_error", true},
                      {Outcome::QUEUE_FULL_DROP_LRU, 429, "rate_limit_error", true},
                      {Outcome::BUDGET_EXHAUSTED, 429, "rate_limit_error", true},
                      {Outcome::INVALID_PARAMS, 400, kInvalid, false},
                      {Outcome::CONTEXT_OVERFLOW, 400, kInvalid, false},
                      {Outcome::PAYLOAD_TOO_LARGE, 413, kInvalid, false},
                      {Outcome::UNAUTHENTICATED, 401, "authentication_error", false},
                      {Outcome::FORBIDDEN, 403, "permission_error", false},
                      {Outcome::NOT_FOUND, 404, kInvalid, false},
                      {Outcome::RESULT_DROPPED, 410, kInvalid, false},
                      {Outcome::MODEL_NOT_FOUND, 404, kInvalid, false},
                      {Outcome::METHOD_NOT_ALLOWED, 405, kInvalid, false},
                      {Outcome::CONFLICT, 409, kInvalid, false},
                      {Outcome::POOL_UNREADY, 503, kServer, true},
                      {Outcome::POOL_UNAVAILABLE, 503, kServer, true},
                      {Outcome::JOURNAL_UNAVAILABLE, 503, kServer, true},
                      {Outcome::REPLICA_EXHAUSTED, 503, kServer, true},
                      {Outcome::DEADLINE_UNMET, 400, kInvalid, false},
                      {Outcome::DECODE_TIMEOUT, 500, kServer, true},
                      {Outcome::WORKER_RESET, 500, kServer, true},
                      {Outcome::CANCELED, 499, kInvalid, false},
                      {Outcome::SLOW_CONSUMER, 500, kServer, false},
                      {Outcome::NUMERIC_FAULT, 500, kServer, false},
                      {Outcome::MODEL_DEPRECATED, 403, "permission_error", false},
                      {Outcome::NOT_IMPLEMENTED, 501, kServer, false},
                      {Outcome::INTERNAL, 500, kServer, true}};
  for (const Row& row : rows) {
    Failure failure;
    failure.outcome = row.outcome;
    const std::string code(outcome_row(row.outcome).code);
    const auto own = failure_reply(failure, Envelope::orch_queue);
    const auto openai = failure_reply(failure, Envelope::openai);
    EXPECT_EQ(own.status, row.status) << code;
    EXPECT_EQ(openai.status, row.status) << code;
    const json body = json::parse(own.body);
    EXPECT_EQ(body["code"], code);
    EXPECT_EQ(body["retriable"], row.retriable) << code;
    EXPECT_FALSE(body["message"].get<std::string>().empty()) << code << " without words of its own";
    EXPECT_EQ(json::parse(openai.body)["error"]["type"], row.type) << code;
    EXPECT_EQ(json::parse(openai.body)["error"]["code"], code);
    EXPECT_EQ(header(own, "WWW-Authenticate"), row.status == 401 ? "Bearer" : "") << code;
    EXPECT_EQ(header(own, "Retry-After"), "") << code << " was told no time";
    failure.retry_after = Duration::milliseconds(2500);
    const auto later = failure_reply(failure, Envelope::openai);
    EXPECT_EQ(header(later, "Retry-After"), "3") << code;
    EXPECT_EQ(header(later, "X-Backoff-Ms"), row.status == 429 ? "2500" : "") << code;
  }
  int public_rows = 0;
  for (const OutcomeRow& row : kOutcomes) public_rows += row.internal ? 0 : 1;
  EXPECT_EQ(public_rows, static_cast<int>(std::size(rows))) << "an outcome is missing in this table";
}

TEST(FailureReply, each_api_has_its_own_envelope) {
  Failure failure;
  failure.outcome = Outcome::INVALID_PARAMS;
  failure.message = "n must be 1";
  failure.field = "n";
  const json openai = json::parse(failure_reply(failure, envelope_of("/v1/chat/completions")).body);
  EXPECT_EQ(
      openai,
      json::parse(
          R"({"error":{"message":"n must be 1","type":"invalid_request_error","param":"n","code":"INVALID_PARAMS"}})"));
  const json own = json::parse(failure_reply(failure, envelope_of("/v1/tasks")).body);
  EXPECT_EQ(own, json::parse(R"({"code":"INVALID_PARAMS","message":"n must be 1","field":"n","retriable":false})"));
  EXPECT_EQ(envelope_of("/v1/models"), Envelope::openai);
  EXPECT_EQ(envelope_of("/v1/completions"), Envelope::openai);
  failure.field = "model_ref";
  EXPECT_EQ(json::parse(openai_error_json(failure))["error"]["param"], "model");
  EXPECT_EQ(json::parse(failure_json(failure))["field"], "model_ref");
}

TEST(FailureReply, what_the_server_refuses_by_itself_keeps_its_status) {
  const auto too_large = server_error_reply({413, "the body exceeds 1048576 bytes", "/v1/chat/completions", ""});
  EXPECT_EQ(too_large.status, 413);
  EXPECT_EQ(json::parse(too_large.body)["error"]["code"], "PAYLOAD_TOO_LARGE");
  EXPECT_EQ(server_error_reply({431, "head", "", ""}).status, 431);
  EXPECT_EQ(server_error_reply({408, "slow", "/v1/tasks", ""}).status, 408);
  Failure who;
  who.outcome = Outcome::UNAUTHENTICATED;
  EXPECT_EQ(header(failure_reply(who, Envelope::orch_queue), "WWW-Authenticate"), "Bearer");
}

}  // namespace
}  // namespace orch::gateway
