// The conformance rows that need bytes, time and connections, on a stub whose bytes are written here after
// llama-server's wire format. Rows A1 to A4, A7, A10, A11 without a network: core/llama_cpp_test.cc.
#include "adapters/shell/http_bridge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>

#include "adapters/core/llama_cpp.h"
#include "adapters/shell/recording_sink.h"
#include "adapters/shell/stub_engine.h"

namespace orch::adapter {
namespace {

using namespace std::chrono_literals;

const std::string kToken =
    "data: {\"index\":0,\"content\":\" "
    "Paris\",\"tokens\":[7042],\"stop\":false,\"tokens_predicted\":1,\"tokens_evaluated\":5}\n\n";
const std::string kFinal =
    "data: "
    "{\"content\":\"\",\"stop\":true,\"stop_type\":\"eos\",\"tokens_predicted\":1,\"tokens_evaluated\":5,\"truncated\":"
    "false,"
    "\"timings\":{\"cache_n\":0,\"prompt_ms\":10,\"predicted_ms\":5}}\n\n";
const std::string kIdle = R"([{"id":0,"is_processing":false},{"id":1,"is_processing":false}])";
const std::string kBusy = R"([{"id":0,"is_processing":true},{"id":1,"is_processing":false}])";
const std::string kProps = R"({"default_generation_settings":{"n_ctx":2048},"total_slots":2,"model_alias":"alias",
  "model_ftype":"Q4_1","model_path":"/no/such/model.gguf","chat_template":"t","build_info":"b77-stub"})";

class HttpBridgeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    stub_.reply_on("/health", 200, R"({"status":"ok"})");
    stub_.reply_on("/props", 200, kProps);
    stub_.reply_on("/v1/models", 200, R"({"data":[{"id":"alias"}]})");
    stub_.reply_on("/slots", 200, kIdle);
    stub_.reply_on("/tokenize", 200, R"({"tokens":[28120,905]})");
  }
  void TearDown() override {
    stub_.end();
    bridge_.reset();
  }

  HttpBridge::Options options() {
    HttpBridge::Options out;
    out.address = {.url = stub_.url(), .key = "sk-engine-key"};
    out.probing.model_name = "served";
    out.probing.every = Duration::milliseconds(20);
    out.probing.every_loading = Duration::milliseconds(5);
    return out;
  }
  bool wait_info(const std::function<bool(const worker::EngineInfo&)>& condition) {
    return wait_until([&] { return condition(bridge_->info()); });
  }
  void start(const HttpBridge::Options& options) {
    bridge_ = std::make_unique<HttpBridge>(std::make_unique<LlamaCppDialect>(), options);
    ASSERT_TRUE(wait_info([](const worker::EngineInfo& info) { return info.ready; }));
  }
  void stream(StubEngine::Route body) {
    stub_.route("/completion",
                [body = std::move(body)](const StubEngine::Connection& connection, const StubEngine::Request& request) {
                  connection.write(StubEngine::stream_head());
                  body(connection, request);
                });
  }
  std::shared_ptr<RecordingSink> submit(std::uint64_t job = 1) {
    worker::GenerationRequest request;
    request.id = {.job = {Uuid{.hi = 1, .lo = job}}, .attempt = 1};
    request.prompt.text = "The capital";
    request.max_tokens = 4;
    request.deadline = deadline_;
    auto sink = std::make_shared<RecordingSink>();
    bridge_->submit(std::move(request), sink);
    return sink;
  }
  static DispatchId id(std::uint64_t job = 1) { return {.job = {Uuid{.hi = 1, .lo = job}}, .attempt = 1}; }

  StubEngine stub_;
  std::unique_ptr<HttpBridge> bridge_;
  std::optional<Duration> deadline_;
};

TEST_F(HttpBridgeTest, A1_a_stream_written_byte_by_byte_arrives_whole) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    for (const char byte : kToken + ": ping\n\n" + kFinal) connection.write(std::string(1, byte));
  });
  start(options());
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "FINISHED") << sink->message();
  EXPECT_EQ(sink->text(), " Paris");
  EXPECT_EQ(sink->prompt_tokens(), 5u);
  EXPECT_EQ(sink->result().completion_tokens, 1u);
  EXPECT_EQ(bridge_->counters().running, 0u);
  EXPECT_EQ(bridge_->counters().tokens_out_total, 1u);
  EXPECT_EQ(bridge_->counters().tokens_in_total, 5u);
}

TEST_F(HttpBridgeTest, A3_early_end_is_upstream_truncated_and_the_only_terminal) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) { connection.write(kToken); });
  start(options());
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "WORKER_RESET");
  EXPECT_NE(sink->message().find("upstream truncated"), std::string::npos);
  EXPECT_EQ(sink->text(), " Paris");
  bridge_.reset();
  EXPECT_EQ(sink->terminals(), 1);
}

TEST_F(HttpBridgeTest, A4_an_error_object_after_200_is_a_typed_failure) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write(kToken + "data: {\"error\":{\"message\":\"slot lost\",\"type\":\"server_error\"}}\n\n");
    connection.wait_closed();
  });
  start(options());
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "WORKER_RESET");
  EXPECT_NE(sink->message().find("slot lost"), std::string::npos);
  EXPECT_EQ(sink->text(), " Paris");
}

TEST_F(HttpBridgeTest, A5_cancel_closes_the_connection_and_the_slot_is_back_only_when_the_engine_says_so) {
  std::atomic<bool> busy = true;
  stub_.route("/slots", [&busy](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write(StubEngine::reply(200, busy ? kBusy : kIdle));
    connection.stub().note(busy ? "asked while busy" : "asked while idle");
  });
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write(kToken);
    if (connection.wait_closed()) connection.stub().note("closed");
  });
  auto patient = options();
  patient.budgets.cancel_settle = Duration::seconds(60);
  patient.probing.every = Duration::seconds(60);
  start(patient);
  EXPECT_EQ(bridge_->info().cancel, "confirmed");
  const auto sink = submit();
  ASSERT_TRUE(sink->wait_tokens());
  const auto began = std::chrono::steady_clock::now();
  bridge_->cancel(id());
  ASSERT_TRUE(stub_.wait_note("closed"));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 1s);  // the row says 100 ms; a loaded test machine gets more
  ASSERT_TRUE(stub_.wait_note("asked while busy", 3));
  EXPECT_EQ(sink->terminals(), 0);
  EXPECT_EQ(bridge_->counters().running, 1u);
  busy = false;
  EXPECT_EQ(sink->outcome(), "CANCELED");
  EXPECT_EQ(bridge_->counters().running, 0u);
  EXPECT_EQ(bridge_->counters().canceled_total, 1u);
}

TEST_F(HttpBridgeTest, A5_an_engine_that_hides_its_slots_is_unconfirmed_and_gets_time_to_settle) {
  stub_.reply_on("/slots", 501, R"({"error":{"message":"off","type":"not_supported_error"}})");
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write(kToken);
    connection.wait_closed();
  });
  auto settling = options();
  settling.budgets.cancel_settle = Duration::milliseconds(200);
  start(settling);
  EXPECT_EQ(bridge_->info().cancel, "unconfirmed");
  const auto sink = submit();
  ASSERT_TRUE(sink->wait_tokens());
  const auto began = std::chrono::steady_clock::now();
  bridge_->cancel(id());
  EXPECT_EQ(sink->outcome(), "CANCELED");
  EXPECT_GE(std::chrono::steady_clock::now() - began, 190ms);
}

TEST_F(HttpBridgeTest, A6_an_engine_that_refuses_the_connection_is_POOL_UNAVAILABLE) {
  start(options());
  // Ready, then nobody listens any more.
  stub_.end();
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "POOL_UNAVAILABLE");
}

TEST_F(HttpBridgeTest, A6_connect_is_a_budget_of_its_own) {
  auto short_connect = options();
  short_connect.budgets.connect = Duration::milliseconds(100);
  short_connect.probing.every = Duration::seconds(60);
  start(short_connect);
  const std::uint16_t port = stub_.port();
  stub_.end();
  const FullListener nobody_accepts(port);
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "POOL_UNAVAILABLE");
  EXPECT_NE(sink->message().find("connect timeout after 100 ms"), std::string::npos) << sink->message();
}

TEST_F(HttpBridgeTest, A6_first_byte_budget) {
  stub_.route("/completion",
              [](const StubEngine::Connection& connection, const StubEngine::Request&) { connection.wait_closed(); });
  auto short_first = options();
  short_first.budgets.first_event = Duration::milliseconds(100);
  start(short_first);
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "POOL_UNAVAILABLE");
  EXPECT_NE(sink->message().find("first byte timeout after 100 ms"), std::string::npos) << sink->message();
}

// A prompt that takes the engine long: nothing is told of it, and the adapter gets on all the while.
TEST_F(HttpBridgeTest, OC_ADAPT_5085_a_silent_engine_is_progress_until_its_budget_is_spent) {
  stub_.route("/completion", [](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.stub().note("prompt");
    connection.wait_closed();
  });
  auto patient = options();
  patient.budgets.first_event = Duration::milliseconds(2500);  // the loop looks once a second at least
  start(patient);
  EXPECT_EQ(bridge_->counters().waits_done, 0u) << "nothing is waited for";
  const auto sink = submit();
  ASSERT_TRUE(stub_.wait_note("prompt"));
  const std::uint64_t before = bridge_->counters().waits_done;
  ASSERT_TRUE(wait_until([&] { return bridge_->counters().waits_done > before; }));
  EXPECT_EQ(bridge_->counters().steps_done, 0u);
  EXPECT_EQ(sink->outcome(), "POOL_UNAVAILABLE");
  EXPECT_NE(sink->message().find("first byte timeout after 2500 ms"), std::string::npos) << sink->message();
}

TEST_F(HttpBridgeTest, A6_idle_budget_counts_tokens_and_not_comments) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write(kToken);
    while (connection.write(": ping\n\n") && connection.open_for(10ms)) {
    }
  });
  auto short_idle = options();
  short_idle.budgets.idle = Duration::milliseconds(100);
  start(short_idle);
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "DECODE_TIMEOUT");
  EXPECT_NE(sink->message().find("idle timeout after 100 ms"), std::string::npos) << sink->message();
}

TEST_F(HttpBridgeTest, A6_total_budget_and_the_jobs_own_deadline) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    while (connection.write(kToken) && connection.open_for(5ms)) {
    }
  });
  auto short_total = options();
  short_total.budgets.total = Duration::milliseconds(100);
  start(short_total);
  const auto sink = submit(1);
  EXPECT_EQ(sink->outcome(), "DECODE_TIMEOUT");
  EXPECT_NE(sink->message().find("total timeout after 100 ms"), std::string::npos) << sink->message();
  deadline_ = Duration::milliseconds(50);
  const auto late = submit(2);
  EXPECT_EQ(late->outcome(), "DECODE_TIMEOUT");
  EXPECT_NE(late->message().find("deadline"), std::string::npos) << late->message();
}

TEST_F(HttpBridgeTest, A7_statuses_before_the_stream_become_outcomes) {
  start(options());
  const std::vector<std::pair<int, std::string>> rows{
      {400, "INVALID_PARAMS"}, {404, "INVALID_PARAMS"}, {422, "INVALID_PARAMS"},
      {401, "INTERNAL"},       {503, "POOL_UNREADY"},   {429, "POOL_UNREADY"},
      {500, "WORKER_RESET"},   {502, "WORKER_RESET"},   {302, "INTERNAL"}};
  std::uint64_t job = 1;
  for (const auto& [status, outcome] : rows) {
    stub_.reply_on("/completion", status, R"({"error":{"message":"why","type":"x"}})");
    EXPECT_EQ(submit(job++)->outcome(), outcome) << status;
  }
}

TEST_F(HttpBridgeTest, A8_loading_then_ready_then_dead) {
  stub_.reply_on("/health", 503, R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})");
  bridge_ = std::make_unique<HttpBridge>(std::make_unique<LlamaCppDialect>(), options());
  const auto early = submit(1);
  EXPECT_EQ(early->outcome(), "POOL_UNREADY");
  EXPECT_FALSE(bridge_->info().ready);
  EXPECT_FALSE(bridge_->info().load_failure);
  stub_.reply_on("/health", 200, R"({"status":"ok"})");
  ASSERT_TRUE(wait_info([](const worker::EngineInfo& info) { return info.ready; }));
  const worker::EngineInfo info = bridge_->info();
  EXPECT_EQ(info.engine, "llamacpp");
  EXPECT_EQ(info.engine_version, "b77-stub");
  EXPECT_EQ(info.model_name, "served");
  EXPECT_EQ(info.model_digest, "") << "not told is not guessed";
  EXPECT_EQ(info.quant, "Q4_1");
  EXPECT_EQ(info.ctx_max, 2048u);
  EXPECT_EQ(info.slots, 2u);
  EXPECT_EQ(info.accelerator, "external");
  stub_.end();
  EXPECT_TRUE(wait_info([](const worker::EngineInfo& seen) { return !seen.ready && seen.load_failure.has_value(); }));
}

TEST_F(HttpBridgeTest, A8_an_engine_that_comes_back_as_another_one_is_not_ready) {
  start(options());
  std::string other = kProps;
  other.replace(other.find("b77"), 3, "b78");
  stub_.reply_on("/props", 200, other);
  ASSERT_TRUE(wait_info([](const worker::EngineInfo& seen) { return !seen.ready; }));
  EXPECT_EQ(bridge_->info().load_failure->outcome, Outcome::WORKER_RESET);
}

TEST_F(HttpBridgeTest, A11_the_request_on_the_wire_carries_the_parameters) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) { connection.write(kFinal); });
  start(options());
  EXPECT_EQ(submit()->outcome(), "FINISHED");
  const auto requests = stub_.requests();
  const auto completion =
      std::find_if(requests.begin(), requests.end(), [](const auto& seen) { return seen.path == "/completion"; });
  ASSERT_NE(completion, requests.end());
  EXPECT_NE(completion->body.find("\"prompt\":[28120,905]"), std::string::npos) << completion->body;
  EXPECT_NE(completion->body.find("\"n_predict\":4"), std::string::npos);
}

TEST_F(HttpBridgeTest, A13_the_engine_gets_its_own_key_and_failures_do_not_tell_it) {
  stub_.reply_on("/completion", 401, R"({"error":{"message":"wrong key sk-engine-key"}})");
  start(options());
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "INTERNAL");
  EXPECT_EQ(sink->message().find("sk-engine-key"), std::string::npos);
  for (const auto& request : stub_.requests()) {
    EXPECT_NE(request.head.find("Authorization: Bearer sk-engine-key\r\n"), std::string::npos);
    EXPECT_EQ(request.head.find("Cookie"), std::string::npos);
  }
}

TEST_F(HttpBridgeTest, A14_an_endless_line_ends_the_job) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write(kToken + "data: ");
    const std::string block(64 * 1024, 'x');
    while (!connection.stub().ended() && connection.write(block)) {
    }
  });
  start(options());
  const auto sink = submit();
  EXPECT_EQ(sink->outcome(), "WORKER_RESET");
  EXPECT_NE(sink->message().find("limit"), std::string::npos) << sink->message();
}

TEST_F(HttpBridgeTest, A14_an_endless_head_ends_the_job) {
  stub_.route("/completion", [](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write("HTTP/1.1 200 OK\r\n");
    while (!connection.stub().ended() && connection.write("X-Padding: " + std::string(1000, 'x') + "\r\n")) {
    }
  });
  start(options());
  EXPECT_EQ(submit()->outcome(), "WORKER_RESET");
}

TEST_F(HttpBridgeTest, A10_tokens_are_counted_by_the_engine) {
  stub_.reply_on("/apply-template", 200, R"({"prompt":"rendered"})");
  start(options());
  worker::EnginePrompt prompt;
  prompt.messages = {{"user", "hi"}};
  auto counted = bridge_->count_tokens(prompt);
  ASSERT_TRUE(counted.ok());
  EXPECT_EQ(counted.value().first, 2u);
  EXPECT_FALSE(counted.value().second);
  stub_.reply_on("/tokenize", 500, "");
  EXPECT_FALSE(bridge_->count_tokens(prompt).ok());
}

TEST_F(HttpBridgeTest, its_end_gives_every_job_its_terminal) {
  stream([](const StubEngine::Connection& connection, const StubEngine::Request&) {
    connection.write(kToken);
    connection.wait_closed();
  });
  start(options());
  const auto first = submit(1);
  ASSERT_TRUE(first->wait_tokens());
  const auto second = submit(2);
  bridge_.reset();
  EXPECT_EQ(first->outcome(), "WORKER_RESET");
  EXPECT_EQ(second->terminals(), 1);
}

}  // namespace
}  // namespace orch::adapter
