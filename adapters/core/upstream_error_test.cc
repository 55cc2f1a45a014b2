#include "adapters/core/upstream_error.h"

#include <gtest/gtest.h>

namespace orch::adapter {
namespace {

Outcome outcome(int status, std::string_view body = {}) { return failure_of_status(status, body).outcome; }

TEST(UpstreamError, A7_statuses_map_to_outcomes) {
  for (const int status : {400, 404, 413, 422}) EXPECT_EQ(outcome(status), Outcome::INVALID_PARAMS) << status;
  for (const int status : {401, 403}) EXPECT_EQ(outcome(status), Outcome::INTERNAL) << status;
  EXPECT_EQ(outcome(408), Outcome::DECODE_TIMEOUT);
  for (const int status : {429, 503}) EXPECT_EQ(outcome(status), Outcome::POOL_UNREADY) << status;
  EXPECT_EQ(outcome(501), Outcome::NOT_IMPLEMENTED);
  for (const int status : {424, 500, 502, 504}) EXPECT_EQ(outcome(status), Outcome::WORKER_RESET) << status;
  for (const int status : {302, 418, 499}) EXPECT_EQ(outcome(status), Outcome::INTERNAL) << status;
}

TEST(UpstreamError, a_context_overflow_is_told_from_other_bad_requests) {
  EXPECT_EQ(outcome(400, R"({"error":{"message":"too long","type":"exceed_context_size_error"}})"),
            Outcome::CONTEXT_OVERFLOW);
}

TEST(UpstreamError, the_message_is_the_engines_own_bounded_and_valid) {
  const auto named =
      failure_of_status(400, R"({"error":{"message":"n_predict is wrong","type":"invalid_request_error"}})");
  EXPECT_NE(named.message.find("n_predict is wrong"), std::string::npos);
  std::string filler;
  for (int i = 0; i < 2000; ++i) filler += "\xC3\xA9";
  const auto longest = failure_of_status(500, "{\"error\":\"" + filler + "\"}");
  EXPECT_LT(longest.message.size(), 600u);
  EXPECT_EQ(static_cast<unsigned char>(longest.message[longest.message.size() - 4]) & 0xC0, 0x80)
      << "cut inside a code point";
  EXPECT_EQ(failure_of_status(500, "<html>").message, "engine answered 500");
}

TEST(UpstreamError, A13_a_refused_key_is_not_echoed) {
  const auto refused = failure_of_status(401, R"({"error":{"message":"bad key sk-123"}})");
  EXPECT_EQ(refused.message.find("sk-123"), std::string::npos);
}

TEST(UpstreamError, A4_an_error_in_a_stream_is_a_reset_unless_the_caller_caused_it) {
  EXPECT_EQ(failure_in_stream(R"({"error":{"message":"x","type":"server_error"}})").outcome, Outcome::WORKER_RESET);
  EXPECT_EQ(failure_in_stream(R"({"error":{"message":"x","type":"unavailable_error"}})").outcome,
            Outcome::WORKER_RESET);
  EXPECT_EQ(failure_in_stream(R"({"error":{"message":"x","type":"exceed_context_size_error"}})").outcome,
            Outcome::CONTEXT_OVERFLOW);
  EXPECT_EQ(failure_in_stream("not json").outcome, Outcome::WORKER_RESET);
}

}  // namespace
}  // namespace orch::adapter
