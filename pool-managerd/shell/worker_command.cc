#include "pool-managerd/shell/worker_command.h"

#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <limits>
#include <string_view>

#include "common/base/check.h"

namespace orch::pool {
namespace {

constexpr std::size_t kSocketPathMax = sizeof(sockaddr_un{}.sun_path) - 1;
constexpr int kCpuNiceness = 5;

Duration ms(std::uint32_t value) { return Duration::milliseconds(static_cast<std::int64_t>(value)); }

std::string replica_name(const Config::Pool& pool, std::uint32_t index) {
  return pool.id + "-" + std::to_string(index);
}

std::string inc_text(Incarnation inc) { return std::to_string(inc.boot) + "." + std::to_string(inc.counter); }

}  // namespace

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
  for (const Config::Pool& pool : config.pools) {
    for (std::uint32_t i = 0; i < pool.replicas; ++i) {
      settings.replicas.push_back({.replica_id = replica_name(pool, i),
                                   .pool_id = pool.id,
                                   .engine = std::string(to_string(pool.engine)),
                                   .model_name = pool.model.name,
                                   .model_digest = pool.model.digest,
                                   .slots = pool.slots});
    }
  }
  return settings;
}

WorkerCommands::WorkerCommands(const Config& config, std::string program_dir, std::string state_dir)
    : config_(config), program_dir_(std::move(program_dir)), state_dir_(std::move(state_dir)) {}

Status<std::string> WorkerCommands::check_socket_paths(std::uint64_t boot) const {
  const Incarnation longest{.boot = boot, .counter = 999'999'999};
  for (const Config::Pool& pool : config_.pools) {
    const std::string path = socket_path(replica_name(pool, pool.replicas - 1), longest);
    if (path.size() <= kSocketPathMax) continue;
    return Err{"state_dir: the worker socket " + path + " has " + std::to_string(path.size()) +
               " bytes, the limit of a unix socket is " + std::to_string(kSocketPathMax)};
  }
  return Ok{};
}

const Config::Pool* WorkerCommands::pool_of(const std::string& replica_id) const {
  for (const Config::Pool& pool : config_.pools) {
    for (std::uint32_t i = 0; i < pool.replicas; ++i) {
      if (replica_name(pool, i) == replica_id) return &pool;
    }
  }
  return nullptr;
}

std::string WorkerCommands::socket_path(const std::string& replica_id, Incarnation inc) const {
  return run_dir() + "/" + replica_id + "-" + inc_text(inc) + ".sock";
}
std::string WorkerCommands::log_path(const std::string& replica_id, Incarnation inc) const {
  return log_dir() + "/" + log_prefix(replica_id) + inc_text(inc) + ".log";
}

std::vector<std::string> WorkerCommands::arguments(const std::string& replica_id, Incarnation inc) const {
  const Config::Pool* pool = pool_of(replica_id);
  ORCH_CHECK(pool != nullptr);
  const bool native = pool->engine == Engine::native;
  std::vector<std::string> out{program_dir_ + (native ? "/workerd" : "/adapterd")};
  const auto add = [&](std::string_view flag, std::string value) {
    if (value.empty()) return;
    out.emplace_back(flag);
    out.push_back(std::move(value));
  };
  if (native) {
    add("--model", pool->model.path);
    add("--model-digest", pool->model.digest);
    add("--ctx", std::to_string(pool->ctx));
    add("--device", pool->device);
    add("--isa", std::string(to_string(pool->isa)));
    add("--threads", std::to_string(pool->threads));
    add("--log-level", std::string(to_string(config_.log.level)));
  } else {
    add("--dialect", std::string(to_string(pool->engine)));
    add("--engine-url", pool->engine_url);
    add("--engine-key-file", pool->engine_key_file);
    if (pool->engine == Engine::mock) add("--script", pool->mock_script);
  }
  add("--model-name", pool->model.name);
  add("--slots", std::to_string(pool->slots));
  add("--listen", "unix:" + socket_path(replica_id, inc));
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
