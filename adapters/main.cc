// adapterd: the Worker service in front of an external engine (DESIGN 2).
#include <curl/curl.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>

#include "adapters/core/llama_cpp.h"
#include "adapters/shell/http_bridge.h"
#include "adapters/shell/mock_engine.h"
#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "worker/shell/worker_server.h"

namespace {

constexpr int kExitUsage = 64;
constexpr std::size_t kFileBytesMax = 1024 * 1024;

struct Flags {
  std::string dialect;
  std::string engine_url;
  std::string engine_key_file;
  std::string model_name;
  std::string listen;
  std::string script;
  std::string log_level = "info";
  std::uint32_t slots = 0;
  std::uint64_t seed = 0;
  std::uint64_t first_event_ms = 300'000;
  std::uint64_t idle_ms = 60'000;
  bool digest_local_model = false;
  std::optional<int> lifeline_fd;
  std::uint32_t orphan_grace_ms = 0;
};

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (text.size() > kFileBytesMax) return std::nullopt;
  return text;
}

int usage(const std::string& message) {
  std::fprintf(stderr, "adapterd: %s\n", message.c_str());
  return kExitUsage;
}

int serve_mock(const Flags& flags, orch::worker::WorkerServer::Options server) {
  orch::adapter::MockEngine::Options options{
      .model_name = flags.model_name, .slots = flags.slots == 0 ? 4 : flags.slots, .seed = flags.seed};
  if (!flags.script.empty()) {
    const auto text = read_file(flags.script);
    if (!text) return usage("--script: " + flags.script + " cannot be read or is larger than 1 MiB");
    auto script = orch::adapter::MockScript::parse(*text);
    if (!script.ok()) return usage("--script: " + script.error());
    options.script = std::move(script.value());
  }
  orch::adapter::MockEngine engine(std::move(options));
  return orch::worker::serve(engine, std::move(server));
}

int serve_http(const Flags& flags, orch::worker::WorkerServer::Options server) {
  orch::adapter::HttpBridge::Options options;
  options.address.url = flags.engine_url;
  while (options.address.url.ends_with('/')) options.address.url.pop_back();
  if (!options.address.url.starts_with("http://") && !options.address.url.starts_with("https://")) {
    return usage("--engine-url: must begin with http:// or https://");
  }
  if (!flags.engine_key_file.empty()) {
    auto key = read_file(flags.engine_key_file);
    if (!key) return usage("--engine-key-file: " + flags.engine_key_file + " cannot be read");
    while (!key->empty() && (key->back() == '\n' || key->back() == '\r')) key->pop_back();
    if (key->empty() || key->find_first_of("\r\n") != std::string::npos) {
      return usage("--engine-key-file: must hold one line");
    }
    options.address.key = std::move(*key);
  }
  options.probing.model_name = flags.model_name;
  options.probing.slots = flags.slots;
  options.probing.digest_local_model = flags.digest_local_model;
  options.budgets.first_event = orch::Duration::milliseconds(static_cast<std::int64_t>(flags.first_event_ms));
  options.budgets.idle = orch::Duration::milliseconds(static_cast<std::int64_t>(flags.idle_ms));
  orch::adapter::HttpBridge engine(std::make_unique<orch::adapter::LlamaCppDialect>(), std::move(options));
  return orch::worker::serve(engine, std::move(server));
}

}  // namespace

int main(int argc, char** argv) {
  orch::runtime::prepare_grpc();
  orch::worker::block_stop_signals();
  ::curl_global_init(CURL_GLOBAL_DEFAULT);

  Flags flags;
  CLI::App app{"adapterd: the Worker service in front of an external engine"};
  app.add_option("--dialect", flags.dialect, "llamacpp | mock")->required()->check(CLI::IsMember({"llamacpp", "mock"}));
  app.add_option("--engine-url", flags.engine_url, "where the engine listens; not for mock");
  app.add_option("--engine-key-file", flags.engine_key_file, "file with the engine's API key");
  app.add_option("--model-name", flags.model_name, "name the model is served under")->required();
  app.add_option("--listen", flags.listen, "unix:/path or 127.0.0.1:port")->required();
  app.add_option("--slots", flags.slots, "concurrent jobs; 0: as many as the engine has")->check(CLI::Range(0, 1024));
  app.add_option("--lifeline-fd", flags.lifeline_fd, "read end of the manager's pipe");
  app.add_option("--orphan-grace-ms", flags.orphan_grace_ms, "life without the manager that holds the lifeline's end");
  app.add_option("--script", flags.script, "mock: JSON file, see mock_script.h");
  app.add_option("--seed", flags.seed, "mock: added to each job's seed");
  app.add_option("--first-event-ms", flags.first_event_ms, "budget from a request to its first token")
      ->check(CLI::Range(1, 86'400'000));
  app.add_option("--idle-ms", flags.idle_ms, "budget between tokens")->check(CLI::Range(1, 86'400'000));
  app.add_flag("--digest-local-model", flags.digest_local_model,
               "hash the engine's model file when it is readable here");
  app.add_option("--log-level", flags.log_level, "debug | info | warn | error | off");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  orch::runtime::log_init("adapterd", orch::runtime::log_level_from(flags.log_level));
  orch::worker::WorkerServer::Options server;
  server.listen = flags.listen;
  server.lifeline_fd = flags.lifeline_fd;
  server.orphan_grace = orch::Duration::milliseconds(flags.orphan_grace_ms);
  const int exit_code =
      flags.dialect == "mock" ? serve_mock(flags, std::move(server)) : serve_http(flags, std::move(server));
  orch::runtime::log_shutdown();
  orch::runtime::end_process(exit_code);
}
