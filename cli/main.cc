// llama-orch-cli: see cli/README.md. The wrapper script adds --binary-dir and the model's path and digest.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>

#include "cli/commands.h"
#include "cli/supervisor.h"
#include "cli/up.h"

int main(int argc, char** argv) {
  using namespace orch::cli;
  CLI::App app{"llama-orch: one front door for language models on your own machines"};
  app.require_subcommand(1);

  ClusterOptions options;
  options.state_dir = default_state_dir();
  std::error_code ignored;
  options.binary_dir = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path().string();
  app.add_option("--state-dir", options.state_dir, "where the cluster keeps its files");
  app.add_option("--binary-dir", options.binary_dir, "where orchestratord, pool-managerd and workerd are");
  app.add_option("--listen", options.http_listen, "HTTP address of a cluster that is to be started");
  app.add_option("--grpc-listen", options.grpc_listen, "gRPC address of a cluster that is to be started");
  app.add_option("--model-path", options.model_path, "GGUF file");
  app.add_option("--model", options.model_name, "name the model is served under")->default_val("smollm2-135m-instruct");
  app.add_option("--model-digest", options.model_digest, "sha256:<hex> the file must have");
  app.add_option("--device", options.device, "auto, cpu, vulkan, vulkan:<index> or vulkan:<uuid>");
  app.add_option("--slots", options.slots, "concurrent jobs of the replica")->check(CLI::Range(1, 64));
  app.add_option("--threads", options.threads, "compute threads of the replica; 0: cores - 1")
      ->check(CLI::Range(0, 256));

  int code = 0;
  auto* up = app.add_subcommand("up", "start the cluster, wait for the model, stream a haiku");
  up->callback([&] { code = run_up(options); });

  std::string prompt;
  std::uint32_t max_tokens = 512;
  double temperature = 0.7;
  bool timing = false;
  auto* run = app.add_subcommand("run", "print the model's answer to a prompt; starts what is not running");
  run->add_option("prompt", prompt, "what to ask")->required();
  run->add_option("--max-tokens", max_tokens)->check(CLI::Range(1, 1 << 20));
  run->add_option("--temperature", temperature)->check(CLI::Range(0.0, 2.0));
  run->add_flag("--timing", timing, "time to first token and tokens/s on standard error");
  run->callback([&] {
    code = ensure_up(options);
    if (code == 0)
      code = stream_chat(options, prompt, max_tokens, temperature, timing ? ShowTiming::yes : ShowTiming::no);
  });

  app.add_subcommand("ps", "list the replicas")->callback([&] { code = run_ps(options); });
  app.add_subcommand("status", "endpoint, readiness, models, replicas")->callback([&] { code = run_status(options); });

  std::string process;
  std::uint32_t lines = 50;
  auto* logs = app.add_subcommand("logs", "the last lines of every log, or of those whose name contains NAME");
  logs->add_option("name", process);
  logs->add_option("-n,--lines", lines)->check(CLI::Range(1, 100000));
  logs->callback([&] { code = run_logs(options, process, lines); });

  std::string task_id;
  auto* cancel = app.add_subcommand("cancel", "cancel a task");
  cancel->add_option("task_id", task_id)->required();
  cancel->callback([&] { code = run_cancel(options, task_id); });

  app.add_subcommand("down", "stop the cluster")->callback([&] { code = run_down(options); });

  auto* supervise = app.add_subcommand("supervise", "what `up` leaves behind");
  supervise->group("");  // not for people
  supervise->callback(
      [&] { code = run_supervisor({.binary_dir = options.binary_dir, .state_dir = options.state_dir}); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int usage = app.exit(error);
    return usage == 0 ? 0 : 2;
  }
  return code;
}
