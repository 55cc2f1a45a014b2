// llama-orch-cli: see cli/README.md.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "cli/commands.h"
#include "cli/doctor.h"
#include "cli/model_store.h"
#include "cli/operations.h"
#include "cli/supervisor.h"
#include "cli/up.h"

namespace {

// The file that stands under the model's name, and the digest it was taken with, unless flags say otherwise.
void resolve_model(orch::cli::ClusterOptions& options) {
  if (options.model_path.empty()) options.model_path = options.models_dir + "/" + options.model_name + ".gguf";
  if (options.model_digest.empty()) options.model_digest = orch::cli::digest_beside(options.model_path);
}

int pull(const orch::cli::ClusterOptions& options, const orch::cli::PullRequest& request) {
  std::uint64_t told = 0;
  const auto model =
      orch::cli::pull_model(options.models_dir, request, [&told](std::uint64_t done, std::optional<std::uint64_t> all) {
        constexpr std::uint64_t kMiB = 1 << 20;
        if (done / kMiB < told + 64 && !(all && done == *all)) return;
        told = done / kMiB;
        std::fprintf(stderr, "%llu MiB%s\n", static_cast<unsigned long long>(told),
                     all ? (" of " + std::to_string(*all / kMiB)).c_str() : "");
      });
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.error().c_str());
    return 1;
  }
  std::printf("%s %s\nserve it with: ./llama-orch up --model %s\n", model->path.c_str(), model->digest.c_str(),
              model->name.c_str());
  return 0;
}

constexpr const char* kClusterFlags = "Flags of the cluster, for every command";
constexpr const char* kExitCodes =
    "Exit codes: 0 done; 1 refused or failed, the reason is on standard error; 2 wrong usage.";

std::string cluster_flags(const CLI::App& app) {
  const auto flags = app.get_options([](const CLI::Option* option) { return option->get_group() == kClusterFlags; });
  return CLI::Formatter().make_group(kClusterFlags, false, flags);
}

// OC-CLI-1011: what was said instead of a command, and which ones there are.
void refuse_command(const CLI::App& app) {
  const auto words = app.remaining();
  if (!words.empty()) std::fprintf(stderr, "unknown command '%s'\n", words.front().c_str());
  std::fputs(app.help().c_str(), stderr);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace orch::cli;
  CLI::App app{"llama-orch: one front door for language models on your own machines", "llama-orch"};
  app.require_subcommand(1);
  app.fallthrough();  // flags of the cluster may stand behind the command too
  app.option_defaults()->group(kClusterFlags);

  ClusterOptions options;
  options.state_dir = default_state_dir();
  options.models_dir = default_models_dir();
  std::error_code ignored;
  options.binary_dir = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path().string();
  app.add_option("--state-dir", options.state_dir, "where the cluster keeps its files")->capture_default_str();
  app.add_option("--binary-dir", options.binary_dir, "where orchestratord, pool-managerd and workerd are");
  app.add_option("--listen", options.http_listen, "HTTP address of a cluster that is to be started")
      ->capture_default_str();
  app.add_option("--grpc-listen", options.grpc_listen, "gRPC address of a cluster that is to be started")
      ->capture_default_str();
  app.add_option("--models-dir", options.models_dir, "where `models pull` keeps model files")->capture_default_str();
  app.add_option("--model-path", options.model_path, "GGUF file; default: the one of that name in --models-dir");
  app.add_option("--model", options.model_name, "name the model is served under")->default_val("smollm2-135m-instruct");
  app.add_option("--model-digest", options.model_digest,
                 "sha256:<hex> the file must have; default: what stands beside it");
  app.add_option("--device", options.device, "auto, cpu, vulkan, vulkan:<index> or vulkan:<uuid>")
      ->capture_default_str();
  app.add_option("--slots", options.slots, "concurrent jobs of the replica")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--threads", options.threads, "compute threads of the replica; 0: cores - 1")
      ->check(CLI::Range(0, 256));

  app.option_defaults()->group("Options");
  app.footer(cluster_flags(app) + "\n" + kExitCodes);  // of the commands below, which take it over

  int code = 0;
  auto* up = app.add_subcommand("up", "start the cluster, wait for the model, stream a haiku");
  up->callback([&] {
    resolve_model(options);
    code = run_up(options);
  });

  std::string prompt;
  std::uint32_t max_tokens = 512;
  double temperature = 0.7;
  bool timing = false;
  auto* run = app.add_subcommand("run", "print the model's answer to a prompt; starts what is not running");
  run->add_option("prompt", prompt, "what to ask")->required();
  run->add_option("--max-tokens", max_tokens, "the answer ends after so many")->check(CLI::Range(1, 1 << 20));
  run->add_option("--temperature", temperature, "0: always the likeliest token")->check(CLI::Range(0.0, 2.0));
  run->add_flag("--timing", timing, "time to first token and tokens/s on standard error");
  run->callback([&] {
    resolve_model(options);
    code = ensure_up(options);
    if (code == 0)
      code = stream_chat(options, prompt, max_tokens, temperature, timing ? ShowTiming::yes : ShowTiming::no);
  });

  app.add_subcommand("ps", "list the replicas")->callback([&] { code = run_ps(options); });
  app.add_subcommand("status", "endpoint, readiness, models, replicas")->callback([&] { code = run_status(options); });

  app.add_subcommand("doctor", "what this machine has, and what is wrong")->callback([&] {
    code = run_doctor(options);
  });

  PullRequest wanted;
  auto* models = app.add_subcommand("models", "the model files at hand and the memory each needs");
  auto* pull_command = models->add_subcommand("pull", "take a GGUF file from a path or an https URL");
  pull_command->add_option("source", wanted.source, "a path or an https URL")->required();
  pull_command->add_option("--name", wanted.name, "served under; default: the file's name");
  pull_command->add_option("--digest", wanted.digest, "sha256:<hex>; a URL needs one");
  models->callback([&] {
    if (!pull_command->parsed()) code = run_models(options);
  });
  pull_command->callback([&] {
    if (wanted.name.empty()) wanted.name = std::filesystem::path(wanted.source).stem().string();
    code = pull(options, wanted);
  });

  std::string process;
  std::uint32_t lines = 50;
  auto* logs = app.add_subcommand("logs", "the last lines of every log, or of those whose name contains NAME");
  logs->add_option("name", process, "part of a log's name, like orchestratord; default: all");
  logs->add_option("-n,--lines", lines, "of each log; default 50")->check(CLI::Range(1, 100000));
  logs->callback([&] { code = run_logs(options, process, lines); });

  std::string task_id;
  auto* cancel = app.add_subcommand("cancel", "cancel a task");
  cancel->add_option("task_id", task_id, "as it was posted to /v1/tasks")->required();
  cancel->callback([&] { code = run_cancel(options, task_id); });

  OperationWish wish;
  const auto add_operation = [&](const char* verb, const char* help) {
    auto* command = app.add_subcommand(verb, help);
    command->add_option("--deadline", wish.deadline_seconds, "seconds that running jobs have, in each drain")
        ->check(CLI::Range(0.0, 86400.0));
    command->callback([&, verb] {
      wish.verb = verb;
      code = run_operation(options, wish);
    });
    return command;
  };
  for (const auto& [verb, help] : {std::pair("drain", "give a pool or a replica no new work, then stop it"),
                                   std::pair("undrain", "bring it back, as a new worker"),
                                   std::pair("restart", "replace each worker of a pool by a new one that is ready")}) {
    add_operation(verb, help)->add_option("target", wish.target, "pool or replica; default: the pool of --model");
  }
  auto* reload = add_operation("reload", "serve another model file; when it fails the old one stays");
  reload->add_option("file", wish.model, "a GGUF file, or the name of one that was pulled")->required();
  reload->add_option("target", wish.target, "pool; default: the pool of --model");
  reload->add_option("--digest", wish.digest, "sha256:<hex> the file must have; default: what stands beside it");

  app.add_subcommand("down", "stop the cluster")->callback([&] { code = run_down(options); });

  auto* supervise = app.add_subcommand("supervise", "what `up` leaves behind");
  supervise->group("");  // not for people
  supervise->callback(
      [&] { code = run_supervisor({.binary_dir = options.binary_dir, .state_dir = options.state_dir}); });

  app.footer(kExitCodes);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) == 0) return 0;
    if (app.get_subcommands().empty()) refuse_command(app);
    return 2;
  }
  return code;
}
