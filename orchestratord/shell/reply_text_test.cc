// The bytes clients see: SSE data, OpenAI objects, error envelopes and their headers.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "orchestratord/shell/event_text.h"
#include "orchestratord/shell/failure_reply.h"

namespace orch::gateway {
namespace {

using nlohmann::json;

std::string transcript(const decltype(StreamEvent::body)& body) {
  std::string data;
  const std::string name(append_task_event(data, StreamEvent{1, body}));
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
  EXPECT_EQ(transcript(TokenEvent{7, {1}, "a\"\n\xC3\xA9"}), "token {\"t\":\"a\\\"\\n\xC3\xA9\",\"i\":7,\"ids\":[1]}");
  EXPECT_EQ(transcript(MetricsEvent{2}), R"(metrics {"queue_depth":2})");
  EndEvent end;
  end.tokens_out = 16;
  end.decode = Duration::microseconds(12'900);
  EXPECT_EQ(transcript(end), R"(end {"tokens_out":16,"decode_ms":12})");
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
  append_chat_usage_chunk(out, identity, {3, 4});
  EXPECT_EQ(out, head + R"([],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}})");
}

TEST(EventText, a_whole_completion_parses_and_counts) {
  std::string out;
  append_chat_completion(out, {"chatcmpl-1", "m", 1}, "hello", FinishReason::stop, {5, 6});
  const json body = json::parse(out);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "hello");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["total_tokens"], 11);
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
