// workerd: serves one model over the Worker service, or runs one of the one-shot commands.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/runtime/clock.h"
#include "common/runtime/grpc_setup.h"
#include "common/runtime/log.h"
#include "worker/backend/create_backend.h"
#include "worker/cpu/thread_pool.h"
#include "worker/model/host_memory.h"
#include "worker/shell/native_engine.h"
#include "worker/shell/native_model.h"
#include "worker/shell/one_shot.h"
#include "worker/shell/worker_server.h"

namespace orch::worker {
namespace {

struct Flags {
  std::string model;
  NativeModelOptions native;
  std::string listen;
  std::optional<int> lifeline_fd;
  std::uint32_t orphan_grace_ms = 0;
  std::string log_level = "info";
  bool list_devices = false;
  bool self_test = false;
  bool estimate = false;
  std::string generate;
  bool raw = false;
  std::string embed;
  std::string speculation = "off";
  std::uint32_t max_tokens = 128;
  float temperature = 0;
  std::uint64_t seed = 0;
};

// DESIGN-RULES "Flow": CPU work leaves one core to everything else and yields to it. Threads the backend makes inherit
// this.
constexpr int kComputeNice = 5;

std::optional<int> parse_flags(int argc, char** argv, Flags& flags) {
  CLI::App app{"Serves one GGUF model over the Worker service.", "workerd"};
  app.set_version_flag("--version", std::string("workerd ") + ORCH_VERSION);
  app.add_option("--model", flags.model, "GGUF file");
  app.add_option("--model-name", flags.native.name, "name it is served under");
  app.add_option("--model-digest", flags.native.digest, "sha256:<64 hex>; the file is refused when it differs");
  app.add_option("--listen", flags.listen, "unix:/path or 127.0.0.1:port");
  app.add_option("--slots", flags.native.backend.slots, "jobs that run together")->check(CLI::Range(1, 256));
  app.add_option("--ctx", flags.native.backend.context, "tokens per slot; 0: the model's own, shrunk to memory");
  app.add_option("--device", flags.native.backend.device, "auto | cpu | vulkan[:index|:uuid]");
  app.add_option("--isa", flags.native.backend.isa, "auto | scalar | avx2 | avx512vnni");
  app.add_option("--threads", flags.native.backend.threads, "compute threads; 0: cores - 1, at least 1");
  app.add_option("--speculation", flags.speculation, "drafts from the text itself: on | off")
      ->check(CLI::IsMember({"on", "off"}));
  app.add_option("--memory-max-bytes", flags.native.backend.memory_max_bytes,
                 "0: nine tenths of what the device has free, shared with --memory-sharers");
  app.add_option("--memory-sharers", flags.native.backend.memory_sharers, "replicas that may take from that memory")
      ->check(CLI::Range(1, 4096));
  app.add_option("--lifeline-fd", flags.lifeline_fd, "read end of the manager's pipe");
  app.add_option("--orphan-grace-ms", flags.orphan_grace_ms, "life without the manager that holds the lifeline's end");
  app.add_option("--log-level", flags.log_level, "debug | info | warn | error | off");
  app.add_flag("--list-devices", flags.list_devices, "print the devices and leave");
  app.add_flag("--self-test", flags.self_test, "load the model, decode one token and leave");
  app.add_flag("--estimate", flags.estimate, "print what the model needs in memory and leave");
  app.add_option("--generate", flags.generate, "answer this prompt on standard output and leave");
  app.add_option("--embed", flags.embed, "print a vector for each line of standard input and leave")
      ->check(CLI::IsMember({"model", "mean", "cls", "last"}));
  app.add_flag("--raw", flags.raw, "with --generate: without the chat template");
  app.add_option("--max-tokens", flags.max_tokens, "with --generate");
  app.add_option("--temperature", flags.temperature, "with --generate")->check(CLI::NonNegativeNumber);
  app.add_option("--seed", flags.seed, "with --generate");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  if (flags.list_devices) return std::nullopt;
  const bool one_shot = !flags.generate.empty() || !flags.embed.empty() || flags.self_test || flags.estimate;
  const char* missing = flags.model.empty()         ? "--model"
                        : one_shot                  ? nullptr
                        : flags.native.name.empty() ? "--model-name"
                        : flags.listen.empty()      ? "--listen"
                                                    : nullptr;
  if (missing != nullptr) {
    std::fprintf(stderr, "workerd: %s is required\n", missing);
    return kExitUsage;
  }
  if (flags.native.name.empty()) flags.native.name = "model";
  if (flags.native.backend.threads == 0) flags.native.backend.threads = std::max(1U, cpu::usable_cores() - 1);
  return std::nullopt;
}

int fail(const ModelError& error) {
  std::fprintf(stderr, "workerd: %s\n", to_failure(error).message.c_str());
  return exit_code_of(error);
}

int print_devices() {
  for (const DeviceLine& line : list_devices()) std::printf("%s\n", to_text(line).c_str());
  return 0;
}

int print_estimate(const GgufFile& file, const BackendOptions& options) {
  const auto config = read_model_config(file);
  if (!config.ok()) return fail(config.error());
  const auto estimate =
      estimate_memory(config.value(), repacked_weight_bytes(file), options, memory_budget(host_memory(), options));
  if (!estimate.ok()) return fail(estimate.error());
  std::printf("%s\n", describe(estimate.value()).c_str());
  return 0;
}

// The process outlives a failed load for a moment, so that the manager can read its reason from GetInfo; then it leaves
// with the failure's exit code. Of a worker that served the manager asks nothing more: the code and the last line of
// its log are the reason, and its jobs wait for it to be gone.
class FailureExit {
 public:
  ~FailureExit() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  void arm(int exit_code, std::string reason, std::chrono::milliseconds grace) {
    const std::lock_guard lock(mutex_);
    code_ = exit_code;
    reason_ = std::move(reason);
    if (over_ || thread_.joinable()) return;
    thread_ = std::thread([this, grace] {
      std::unique_lock wait(mutex_);
      if (!changed_.wait_for(wait, grace, [this] { return over_; })) ::kill(::getpid(), SIGTERM);
    });
  }
  int code() const {
    const std::lock_guard lock(mutex_);
    return code_;
  }
  std::string reason() const {
    const std::lock_guard lock(mutex_);
    return reason_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  int code_ = 0;
  std::string reason_;
  std::thread thread_;
};

// Started before any thread, ended after the engine's.
struct Process {
  FailureExit failure_exit;
  std::mutex mutex;
  int failure_code = 70;  // what a failure means for the exit code; loading and a fault of the backend set it
};

constexpr std::chrono::milliseconds kLoadFailureGrace{2000};

// As the pool manager reads it (FailureClass).
int exit_code_of(BackendFaultKind kind) {
  switch (kind) {
    case BackendFaultKind::device_lost:
      return 69;
    case BackendFaultKind::out_of_memory:
      return 71;
    case BackendFaultKind::broken:
      break;
  }
  return 70;
}

NativeEngine::Options engine_options(const Flags& flags, Process& process, bool serving) {
  NativeEngine::Options options;
  options.initial = initial_info(flags.native);
  options.step_rows_max = kStepRowsMax;
  options.clock = [] { return runtime::now(); };
  options.speculation = flags.speculation == "on";
  options.on_thread_start = [] {
    // On Linux a thread's own niceness, inherited by the compute threads it starts.
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kComputeNice);
  };
  options.on_failure = [&process, serving](const EngineFailure& failure) {
    runtime::log_error("engine_failed", {{"code", outcome_row(failure.outcome).code}, {"message", failure.message}});
    int code = 0;
    {
      const std::lock_guard lock(process.mutex);
      code = process.failure_code;
    }
    const auto grace = failure.worker_ends ? std::chrono::milliseconds(0) : kLoadFailureGrace;
    if (serving) process.failure_exit.arm(code, failure.message, grace);
  };
  options.on_fault = [&process](const BackendFault& fault) {
    const std::lock_guard lock(process.mutex);
    process.failure_code = exit_code_of(fault.kind);
  };
  return options;
}

NativeEngine::Loader loader_for(std::unique_ptr<GgufFile> file, const Flags& flags, Process& process) {
  // A std::function must be copyable; the loader runs once.
  auto shared = std::make_shared<std::unique_ptr<GgufFile>>(std::move(file));
  return [shared, &flags, &process](const std::function<void(float)>& progress) -> Result<NativeModel, EngineFailure> {
    auto loaded = load_native_model(std::move(*shared), flags.native, progress);
    const std::lock_guard lock(process.mutex);
    process.failure_code = loaded.ok() ? 70 : exit_code_of(loaded.error());
    if (!loaded.ok()) return Err{to_failure(loaded.error())};
    const EngineInfo& info = loaded->info;
    if (!info.skipped_devices.empty()) {
      runtime::log_warn("devices_passed_over", {{"taken", info.device_name}, {"devices", info.skipped_devices}});
    }
    if (info.ctx_max < info.ctx_wanted) {  // OC-ENGINE-1006
      runtime::log_warn("context_shrunk",
                        {{"ctx_wanted", info.ctx_wanted}, {"ctx", info.ctx_max}, {"memory", loaded->memory}});
    }
    runtime::log_info("model_loaded", {{"model", info.model_name},
                                       {"digest", info.model_digest},
                                       {"quant", info.quant},
                                       {"device", info.device_name},
                                       {"kernels", info.kernels},
                                       {"ctx", info.ctx_max},
                                       {"ctx_wanted", info.ctx_wanted},
                                       {"slots", info.slots},
                                       {"memory_bytes", info.memory_bytes},
                                       {"memory", loaded->memory}});
    return std::move(loaded.value());
  };
}

std::optional<Pooling> pooling_of(const std::string& name) {
  if (name == "mean") return Pooling::mean;
  if (name == "cls") return Pooling::cls;
  if (name == "last") return Pooling::last;
  return std::nullopt;  // as the model says
}

// A fault of the backend says more than the job that met it.
int code_of(int job_code, Process& process) {
  const std::lock_guard lock(process.mutex);
  return job_code == 70 ? process.failure_code : job_code;
}

int run_once(NativeEngine& engine, const Flags& flags, Process& process) {
  if (!wait_ready(engine)) {
    const std::lock_guard lock(process.mutex);
    return process.failure_code;
  }
  if (flags.self_test) {
    const EngineInfo info = engine.info();
    std::printf("self-test passed: %s on %s by %s, class %s, context %u, slots %u\n", info.model_digest.c_str(),
                info.device_name.c_str(), info.kernels.c_str(), info.numeric_class.c_str(), info.ctx_max, info.slots);
    if (flags.generate.empty() && flags.embed.empty()) return 0;
  }
  if (!flags.embed.empty()) return code_of(embed_lines(engine, pooling_of(flags.embed)), process);
  GenerationRequest request;
  if (flags.raw || !engine.info().template_available)
    request.prompt.text = flags.generate;
  else
    request.prompt.messages = {{"user", flags.generate}};
  request.max_tokens = flags.max_tokens;
  request.temperature = flags.temperature;
  request.seed = flags.seed;
  return code_of(generate_once(engine, std::move(request)), process);
}

int run(int argc, char** argv) {
  Flags flags;
  if (const auto code = parse_flags(argc, argv, flags)) return *code;
  if (flags.list_devices) return print_devices();
  const bool one_shot = !flags.generate.empty() || !flags.embed.empty() || flags.self_test;
  runtime::log_init("workerd", one_shot ? runtime::LogLevel::off : runtime::log_level_from(flags.log_level));
  // Opened before anything is bound: a missing or broken file ends the process at once, with its own exit code.
  auto file = GgufFile::open(flags.model);
  if (!file.ok()) return fail(file.error());
  if (flags.estimate) return print_estimate(*file.value(), flags.native.backend);
  if (one_shot) {
    flags.native.backend.slots = 1;
  } else {
    block_stop_signals();
  }
  Process process;
  NativeEngine engine(engine_options(flags, process, !one_shot), loader_for(std::move(file.value()), flags, process));
  if (one_shot) return run_once(engine, flags, process);
  WorkerServer::Options options;
  options.listen = flags.listen;
  options.lifeline_fd = flags.lifeline_fd;
  options.orphan_grace = Duration::milliseconds(flags.orphan_grace_ms);
  const int code = serve(engine, std::move(options));
  const int failed = process.failure_exit.code();
  if (failed == 0) return code;
  // The last line is what the manager keeps of a worker that ended by itself.
  runtime::log_error("worker_failed", {{"exit_code", failed}, {"message", process.failure_exit.reason()}});
  return failed;
}

}  // namespace
}  // namespace orch::worker

int main(int argc, char** argv) {
  orch::runtime::prepare_grpc();
  const int code = orch::worker::run(argc, argv);
  orch::runtime::log_shutdown();
  return code;
}
