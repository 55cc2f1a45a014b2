// The bridge in front of llama.cpp's real server: streaming, identity, counting, cancel. Needs LLAMA_ORCH_MODEL (the
// default model's file) and the tests' Python environment (build/venv, or LLAMA_ORCH_PYTHON); without them it is
// skipped and says so.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "adapters/core/llama_cpp.h"
#include "adapters/shell/http_bridge.h"
#include "adapters/shell/recording_sink.h"

namespace orch::adapter {
namespace {

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

// llama_server.py as a child; it ends when its standard input does.
class LlamaServer {
 public:
  explicit LlamaServer(const std::string& python, const std::string& model) {
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) return;
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(in[0], STDIN_FILENO);
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
      ::execl(python.c_str(), python.c_str(), "test-harness/llamacpp/llama_server.py", "--model", model.c_str(),
              "--slots", "2", nullptr);
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    stdin_ = in[1];
    stdout_ = out[0];
    char byte = 0;
    while (::read(stdout_, &byte, 1) == 1 && byte != '\n') url_.push_back(byte);
  }
  ~LlamaServer() {
    ::close(stdin_);
    ::close(stdout_);
    ::waitpid(child_, nullptr, 0);
  }
  LlamaServer(const LlamaServer&) = delete;
  LlamaServer& operator=(const LlamaServer&) = delete;
  const std::string& url() const { return url_; }

 private:
  pid_t child_ = -1;
  int stdin_ = -1;
  int stdout_ = -1;
  std::string url_;
};

class LlamaServerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string model = environment("LLAMA_ORCH_MODEL", "");
    const std::string python = environment("LLAMA_ORCH_PYTHON", "build/venv/bin/python");
    if (model.empty() || ::access(model.c_str(), R_OK) != 0 || ::access(python.c_str(), X_OK) != 0) return;
    server_ = new LlamaServer(python, model);
    HttpBridge::Options options;
    options.address.url = server_->url();
    options.probing.model_name = "served";
    options.probing.digest_local_model = true;
    bridge_ = new HttpBridge(std::make_unique<LlamaCppDialect>(), options);
    wait_until([] { return bridge_->info().ready; });
  }
  static void TearDownTestSuite() {
    delete bridge_;
    delete server_;
  }
  void SetUp() override {
    if (server_ == nullptr) GTEST_SKIP() << "LLAMA_ORCH_MODEL or the Python environment is missing";
    ASSERT_FALSE(server_->url().empty()) << "llama_server.py did not start";
    ASSERT_TRUE(bridge_->info().ready);
  }

  static worker::GenerationRequest chat(const std::string& text, std::uint32_t max_tokens) {
    static std::uint64_t next = 0;
    worker::GenerationRequest request;
    request.id = {.job = {Uuid{.hi = 3, .lo = ++next}}, .attempt = 1};
    request.prompt.messages = {{"user", text}};
    request.temperature = 0;
    request.max_tokens = max_tokens;
    return request;
  }
  static std::shared_ptr<RecordingSink> submit(worker::GenerationRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    bridge_->submit(std::move(request), sink);
    return sink;
  }

  // Greedy, not streamed, through the engine's own chat route.
  static std::string engines_own_answer(const std::string& text, std::uint32_t max_tokens) {
    const nlohmann::json body{
        {"messages", {{{"role", "user"}, {"content", text}}}}, {"max_tokens", max_tokens}, {"temperature", 0}};
    const HttpReply reply =
        fetch({.url = server_->url(), .key = {}}, {.path = "/v1/chat/completions", .body = body.dump()},
              Duration::seconds(60), 1 << 20);
    return nlohmann::json::parse(reply.body)["choices"][0]["message"]["content"].get<std::string>();
  }

  static inline LlamaServer* server_ = nullptr;
  static inline HttpBridge* bridge_ = nullptr;
};

TEST_F(LlamaServerTest, OC_ADAPT_5011_identity_is_the_engines_own) {
  const worker::EngineInfo info = bridge_->info();
  EXPECT_EQ(info.engine, "llamacpp");
  EXPECT_FALSE(info.engine_version.empty());
  EXPECT_EQ(info.model_digest.size(), 71u) << info.model_digest;
  EXPECT_EQ(info.quant, "Q4_1");
  EXPECT_EQ(info.ctx_max, 2048u);
  EXPECT_EQ(info.slots, 2u);
  EXPECT_EQ(info.cancel, "confirmed");
  EXPECT_TRUE(info.template_available);
}

TEST_F(LlamaServerTest, OC_ADAPT_5001_A2_streams_what_the_engine_answers_whole_and_counts_like_it) {
  worker::GenerationRequest request = chat("What is the capital of France?", 24);
  const auto counted = bridge_->count_tokens(request.prompt);
  ASSERT_TRUE(counted.ok()) << counted.error().message;
  const auto sink = submit(std::move(request));
  ASSERT_EQ(sink->outcome(), "FINISHED") << sink->message();
  EXPECT_EQ(sink->text(), engines_own_answer("What is the capital of France?", 24));
  EXPECT_EQ(sink->result().prompt_tokens, counted.value().first);
  EXPECT_GT(sink->result().completion_tokens, 0u);
  EXPECT_LE(sink->result().completion_tokens, 24u);
  EXPECT_GT(sink->result().decode.ns, 0);
}

TEST_F(LlamaServerTest, A2_the_same_seed_gives_the_same_text_and_max_tokens_ends_in_length) {
  worker::GenerationRequest request = chat("Tell me a story.", 16);
  request.temperature = 1;
  request.seed = 42;
  worker::GenerationRequest again = request;
  again.id.attempt = 2;
  const auto first = submit(std::move(request));
  ASSERT_EQ(first->outcome(), "FINISHED");
  const auto second = submit(std::move(again));
  ASSERT_EQ(second->outcome(), "FINISHED");
  EXPECT_EQ(first->text(), second->text());
  EXPECT_EQ(first->result().reason, worker::FinishReason::length);
  EXPECT_EQ(first->result().completion_tokens, 16u);
}

TEST_F(LlamaServerTest, A1_code_points_of_several_tokens_arrive_whole_and_all_tokens_are_counted) {
  worker::GenerationRequest request = chat("", 30);
  request.prompt = {};
  request.prompt.text = "Repeat: \xF0\x9F\x8C\x8B\xF0\x9F\x8C\x8B\xF0\x9F\x8C\x8B\xF0\x9F\x8C\x8B\xF0\x9F\x8C\x8B";
  const std::uint64_t before = bridge_->counters().tokens_out_total;
  const auto sink = submit(std::move(request));
  ASSERT_EQ(sink->outcome(), "FINISHED") << sink->message();
  EXPECT_EQ(bridge_->counters().tokens_out_total - before, sink->result().completion_tokens);
}

TEST_F(LlamaServerTest, A5_cancel_frees_the_engines_slot_before_the_job_ends) {
  worker::GenerationRequest request = chat("Write a very long story about the sea.", 1500);
  const DispatchId id = request.id;
  const auto sink = submit(std::move(request));
  ASSERT_TRUE(sink->wait_tokens());
  const LlamaCppDialect dialect;
  const EngineAddress address{.url = server_->url(), .key = {}};
  EXPECT_EQ(dialect.busy_slots(fetch(address, dialect.slots_probe(), Duration::seconds(5), 1 << 20)), 1u);
  bridge_->cancel(id);
  ASSERT_EQ(sink->outcome(), "CANCELED");
  EXPECT_EQ(dialect.busy_slots(fetch(address, dialect.slots_probe(), Duration::seconds(5), 1 << 20)), 0u);
  EXPECT_EQ(bridge_->counters().running, 0u);
}

TEST_F(LlamaServerTest, A7_a_prompt_over_the_context_is_CONTEXT_OVERFLOW) {
  worker::GenerationRequest request = chat("", 4);
  request.prompt = {};
  request.prompt.token_ids.assign(3000, 28120);
  const auto sink = submit(std::move(request));
  EXPECT_EQ(sink->outcome(), "CONTEXT_OVERFLOW") << sink->message();
}

TEST_F(LlamaServerTest, A11_stop_strings_end_the_text_before_them) {
  const std::string question = "What is the capital of France?";
  const std::string whole = engines_own_answer(question, 16);
  ASSERT_GT(whole.size(), 14u);
  worker::GenerationRequest request = chat(question, 16);
  request.stop = {whole.substr(10, 3)};
  const std::string expected = whole.substr(0, whole.find(request.stop[0]));
  const auto sink = submit(std::move(request));
  ASSERT_EQ(sink->outcome(), "FINISHED") << sink->message();
  EXPECT_EQ(sink->text(), expected);
  EXPECT_EQ(sink->result().reason, worker::FinishReason::stop);
}

}  // namespace
}  // namespace orch::adapter
