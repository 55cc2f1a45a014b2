// orchestratord: the front door. Admits, queues and places jobs, and streams their tokens back.
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "common/runtime/grpc_setup.h"
#include "common/runtime/key_ring.h"
#include "common/runtime/log.h"
#include "common/runtime/process_start.h"
#include "common/runtime/state_dir.h"
#include "gen/config_orchestratord.h"
#include "orchestratord/shell/daemon.h"

namespace {

constexpr int kExitUsage = 64;
constexpr int kExitConfig = 78;

int fail(int code, const std::string& message) {
  std::fprintf(stderr, "orchestratord: %s\n", message.c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  orch::runtime::prepare_grpc();
  orch::runtime::keep_files_private();
  orch::runtime::raise_open_files_limit();
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is a full disk to the journal, not the end of the process
  std::string config_path;
  CLI::App app("Admits, queues and places jobs, and streams their tokens back.", "orchestratord");
  app.add_option("--config", config_path, "YAML configuration file; keys: .docs/config.md")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }

  std::ifstream in(config_path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return fail(kExitConfig, "--config: cannot read " + config_path);
  const auto config = orch::gateway_config::load_config(text.str());
  if (!config.ok()) return fail(kExitConfig, config_path + ": " + config.error().text());
  std::vector<orch::runtime::KeyRing::File> key_files;
  for (const std::string& path : config->auth.key_files) key_files.push_back({path, "default", true});
  for (const auto& tenant : config->tenants) {
    for (const std::string& path : tenant.key_files) key_files.push_back({path, tenant.name, false});
  }
  auto keys = orch::runtime::KeyRing::load(key_files);
  if (!keys.ok()) return fail(kExitConfig, "key files: " + keys.error());

  orch::runtime::log_init("orchestratord", orch::runtime::log_level_from(to_string(config->log.level)), true);
  auto state_dir = orch::runtime::StateDir::open(config->state_dir);
  if (!state_dir.ok()) return fail(state_dir.error().exit_code(), state_dir.error().message);
  auto daemon = orch::gateway::Daemon::start(*config, std::move(state_dir).value(), std::move(keys).value());
  if (!daemon.ok()) return fail(daemon.error().exit_code, daemon.error().message);
  daemon.value()->run();
  orch::runtime::log_shutdown();
  orch::runtime::end_process(0);
}
