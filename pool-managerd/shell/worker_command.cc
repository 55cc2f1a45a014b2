#include "pool-managerd/shell/worker_command.h"

#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <limits>
#include <string_view>

#include "common/base/check.h"
#include "pool-managerd/core/memory_sharers.h"
#include "pool-managerd/shell/known_workers.h"

namespace orch::pool {
namespace {

constexpr std::size_t kSocketPathMax = sizeof(sockaddr_un{}.sun_path) - 1;
constexpr int kCpuNiceness = 5;

Duration ms(std::uint32_t value) { return Duration::milliseconds(static_cast<std::int64_t>(value)); }

std::string replica_name(const Config::Pool& pool, std::uint32_t index) {
  return pool.id + "-" + std::to_string(index);
}

}  // namespace

std::string inc_text(Incarnation inc) { return std::to_string(inc.boot) + "." + std::to_string(inc.counter); }

Settings settings_from(const Config& config, ManagerId manager, std::uint64_t boot) {
  Settings settings;
  settings.manager = manager;
  settings.boot = boot;
  settings.ttl = ms(config.lease.ttl_ms);
  settings.term_grace = ms(config.stop.term_grace_ms);
  settings.restart = {.initial = ms(config.restart.initial_ms),
                      .factor = config.restart.factor,
                      .max = ms(config.restart.max_ms),
                      .jitter_percent = config.restart.jitter_percent,
                      .reset_after = ms(config.restart.reset_after_ms),
                      .breaker_failures = config.restart.breaker_failures,
                      .breaker_open = ms(config.restart.breaker_open_ms)};
  settings.health.stall_floor = ms(config.health.stall_ms);
  for (const Config::Pool& pool : config.pools) {
    for (std::uint32_t i = 0; i < pool.replicas; ++i) {
      settings.replicas.push_back({.replica_id = replica_name(pool, i),
                                   .pool_id = pool.id,
                                   .engine = std::string(to_string(pool.engine)),
                                   .model_name = pool.model.name,
                                   .model_digest = pool.model.digest,
                                   .model_path = pool.model.path,
                                   .slots = pool.slots,
                                   .place = replica_name(pool, i),
                                   .device = pool.engine == Engine::native ? pool.device : std::string()});
    }
  }
  count_memory_sharers(settings.replicas);
  return settings;
}

WorkerCommands::WorkerCommands(const Config& config, std::string program_dir, std::string state_dir)
    : config_(config), program_dir_(std::move(program_dir)), state_dir_(std::move(state_dir)) {}

Status<std::string> WorkerCommands::check_socket_paths(std::uint64_t boot) const {
  const Incarnation longest{.boot = boot, .counter = 999'999'999};
  for (const Config::Pool& pool : config_.pools) {
    const std::string path = socket_path(replica_id_of(replica_name(pool, pool.replicas - 1), 1), longest);
    if (path.size() <= kSocketPathMax) continue;
    return Err{"state_dir: the worker socket " + path + " has " + std::to_string(path.size()) +
               " bytes, the limit of a unix socket is " + std::to_string(kSocketPathMax)};
  }
  return Ok{};
}

const Config::Pool* WorkerCommands::pool(const std::string& pool_id) const {
  for (const Config::Pool& each : config_.pools) {
    if (each.id == pool_id) return &each;
  }
  return nullptr;
}

std::string WorkerCommands::socket_path(const std::string& replica_id, Incarnation inc) const {
  return run_dir() + "/" + replica_id + "-" + inc_text(inc) + ".sock";
}
std::string WorkerCommands::output_path(const std::string& replica_id, Incarnation inc) const {
  return run_dir() + "/" + replica_id + "-" + inc_text(inc) + ".out";
}
std::string WorkerCommands::log_path(const std::string& replica_id, Incarnation inc) const {
  return log_dir() + "/" + log_prefix(replica_id) + inc_text(inc) + ".log";
}

std::vector<std::string> WorkerCommands::arguments(const SpawnWorker& what) const {
  const Config::Pool* of = pool(what.pool_id);
  ORCH_CHECK(of != nullptr);
  const bool native = of->engine == Engine::native;
  std::vector<std::string> out{program_dir_ + (native ? "/workerd" : "/adapterd")};
  const auto add = [&](std::string_view flag, std::string value) {
    if (value.empty()) return;
    out.emplace_back(flag);
    out.push_back(std::move(value));
  };
  if (native) {
    add("--model", what.model.path);
    add("--model-digest", what.model.digest);
    add("--ctx", std::to_string(of->ctx));
    add("--device", of->device);
    add("--isa", std::string(to_string(of->isa)));
    add("--threads", std::to_string(of->threads));
    add("--speculation", std::string(to_string(of->speculation)));
    // OC-POOL-3065.
    if (of->memory_max_bytes != 0) {
      add("--memory-max-bytes", std::to_string(of->memory_max_bytes));
    } else {
      add(kMemorySharersFlag, std::to_string(what.memory_sharers));
    }
    add("--log-level", std::string(to_string(config_.log.level)));
  } else {
    add("--dialect", std::string(to_string(of->engine)));
    add("--engine-url", of->engine_url);
    add("--engine-key-file", of->engine_key_file);
    if (of->engine == Engine::mock) add("--script", of->mock_script);
  }
  add("--model-name", of->model.name);
  add("--slots", std::to_string(of->slots));
  add("--listen", "unix:" + socket_path(what.replica_id, what.inc));
  add("--lifeline-fd", std::to_string(kLifelineFd));
  add("--orphan-grace-ms", std::to_string(config_.lease.orphan_grace_ms));
  return out;
}

std::vector<std::string> WorkerCommands::environment() {
  static constexpr std::array<std::string_view, 8> kNames{
      "PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH"};
  static constexpr std::array<std::string_view, 9> kPrefixes{"VK_",   "MESA_",  "LIBGL_", "NVIDIA_", "CUDA_",
                                                             "ASAN_", "UBSAN_", "TSAN_",  "LP_"};
  std::vector<std::string> out;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    bool wanted = false;
    for (const std::string_view each : kNames) wanted = wanted || name == each;
    for (const std::string_view each : kPrefixes) wanted = wanted || name.starts_with(each);
    if (wanted) out.emplace_back(text);
  }
  return out;
}

int WorkerCommands::niceness(const Config::Pool& pool) {
  const bool may_use_cpu = pool.engine == Engine::native && (pool.device == "cpu" || pool.device == "auto");
  return may_use_cpu ? kCpuNiceness : 0;
}

}  // namespace orch::pool
