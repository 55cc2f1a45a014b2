#include "cli/replica_progress.h"

#include <gtest/gtest.h>

#include <string>

namespace orch::cli {
namespace {

std::string replica(const std::string& model, const std::string& state, const std::string& more = "") {
  return R"({"replica_id":"p-0","model_name":")" + model + R"(","state":")" + state + "\"" + more + "}";
}

std::string body(const std::string& replicas) { return R"({"replicas":[)" + replicas + "]}"; }

TEST(ReplicaProgress, a_loading_replica_is_told_with_its_share) {
  const auto progress = read_replica_progress(body(replica("m", "preloading", R"(,"load_progress":0.4)")), "m");
  EXPECT_EQ(progress.text, "p-0 preloading 40 %");
  EXPECT_FALSE(progress.failure);
}

TEST(ReplicaProgress, OC_CLI_1005_a_failed_replica_is_a_failure_with_its_reason) {
  const auto progress = read_replica_progress(body(replica("m", "failed", R"(,"last_error":"no such file")")), "m");
  EXPECT_EQ(progress.failure, "p-0 failed: no such file");
}

TEST(ReplicaProgress, an_open_breaker_says_when_the_next_try_is) {
  const auto progress =
      read_replica_progress(body(replica("m", "failed", R"(,"last_error":"memory","retry_in_ms":299000)")), "m");
  EXPECT_EQ(progress.failure, "p-0 failed: memory (tried again in 300 s)");
}

TEST(ReplicaProgress, waiting_goes_on_while_one_replica_of_the_model_may_still_come) {
  const auto progress = read_replica_progress(
      body(replica("m", "failed") + "," + replica("m", "backoff", R"(,"last_error":"signal 9")")), "m");
  EXPECT_FALSE(progress.failure);
  EXPECT_EQ(progress.text, "p-0 backoff (signal 9)");
}

TEST(ReplicaProgress, replicas_of_other_models_do_not_count) {
  EXPECT_FALSE(read_replica_progress(body(replica("other", "failed")), "m").failure);
  EXPECT_TRUE(
      read_replica_progress(body(replica("other", "ready") + "," + replica("m", "failed")), "m").failure.has_value());
}

TEST(ReplicaProgress, what_is_no_list_of_replicas_says_nothing) {
  for (const char* text : {"", "[]", "{}", R"({"replicas":3})", R"({"replicas":[7,null]})",
                           R"({"replicas":[{"model_name":"m","state":5,"last_error":[]}]})"}) {
    EXPECT_FALSE(read_replica_progress(text, "m").failure) << text;
  }
}

}  // namespace
}  // namespace orch::cli
