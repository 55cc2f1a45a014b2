// pool-managerd: keeps this host's workers and adapters running and grants their slots.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "common/runtime/process_start.h"
#include "common/runtime/state_dir.h"
#include "gen/config_pool_managerd.h"
#include "pool-managerd/shell/daemon.h"

namespace {

constexpr int kExitUsage = 64;
constexpr int kExitConfig = 78;

int fail(int code, const std::string& message) {
  std::fprintf(stderr, "pool-managerd: %s\n", message.c_str());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  orch::runtime::prepare_grpc();
  orch::runtime::keep_files_private();
  orch::runtime::raise_open_files_limit();
  std::string config_path;
  CLI::App app("Keeps this host's workers and adapters running and grants their slots.", "pool-managerd");
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
  const auto config = orch::pool::load_config(text.str());
  if (!config.ok()) return fail(kExitConfig, config_path + ": " + config.error().text());

  orch::runtime::log_init("pool-managerd", orch::runtime::log_level_from(to_string(config->log.level)));
  auto state_dir = orch::runtime::StateDir::open(config->state_dir);
  if (!state_dir.ok()) return fail(state_dir.error().exit_code(), state_dir.error().message);

  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(70, "/proc/self/exe: " + error.message());
  auto daemon = orch::pool::Daemon::start(*config, std::move(state_dir).value(), self.parent_path().string());
  if (!daemon.ok()) return fail(daemon.error().exit_code, daemon.error().message);
  daemon.value()->run();
  orch::runtime::log_shutdown();
  orch::runtime::end_process(0);
}
