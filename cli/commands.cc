#include "cli/commands.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "cli/api_client.h"
#include "cli/log_file.h"
#include "cli/process.h"
#include "cli/up.h"

namespace orch::cli {

namespace {

using Json = nlohmann::json;

constexpr long kTimeoutMs = 5000;
constexpr auto kDownDeadline = std::chrono::seconds(90);

Result<Json, std::string> fetch_replicas(const ClusterOptions& options) {
  const auto port = read_small_file(ClusterFiles(options.state_dir).manager_http_port);
  if (!port.ok()) return Err{std::string("pool-managerd has not started")};
  ORCH_TRY(reply,
           http_get("http://127.0.0.1:" + std::to_string(std::atoi(port->c_str())) + "/v1/replicas", kTimeoutMs));
  const Json body = Json::parse(reply.body, nullptr, false);
  if (reply.status != 200 || !body.is_object() || !body.contains("replicas"))
    return Err{"pool-managerd answered " + reply.body};
  return Json(body["replicas"]);
}

bool cluster_runs(const ClusterOptions& options) {
  if (PidFile::owner(ClusterFiles(options.state_dir).supervisor_pid)) return true;
  std::fprintf(stderr, "no cluster is running (start it with `llama-orch up`)\n");
  return false;
}

}  // namespace

int run_ps(const ClusterOptions& options) {
  if (!cluster_runs(options)) return 1;
  const auto replicas = fetch_replicas(options);
  if (!replicas.ok()) {
    std::fprintf(stderr, "%s\n", replicas.error().c_str());
    return 1;
  }
  std::printf("%-32s %-10s %-8s %-10s %-8s %8s %-7s %s\n", "REPLICA", "STATE", "ENGINE", "DEVICE", "RUNNING", "PID",
              "STARTS", "LAST ERROR");
  for (const Json& r : *replicas) {
    std::printf("%-32s %-10s %-8s %-10s %3u of %-2u %8llu %-7u %s\n", r.value("replica_id", "").c_str(),
                r.value("state", "").c_str(), r.value("engine", "").c_str(), r.value("accelerator", "").c_str(),
                r.value("running", 0U), r.value("slots", 0U),
                static_cast<unsigned long long>(r.value("pid", std::uint64_t{0})), r.value("restarts", 0U) + 1,
                r.value("last_error", "").c_str());
  }
  return 0;
}

int run_status(const ClusterOptions& options) {
  if (!cluster_runs(options)) return 1;
  const std::string url = base_url(options);
  const auto ready = http_get(url + "/readyz", kTimeoutMs);
  std::printf("endpoint  %s\n", url.c_str());
  std::printf("ready     %s\n", !ready.ok()            ? ready.error().c_str()
                                : ready->status == 200 ? "yes"
                                                       : ready->body.c_str());
  for (const std::string& line : restart_lines(ClusterFiles(options.state_dir)))
    std::printf("daemon    %s\n", line.c_str());
  const auto models = http_get(url + "/v1/models", kTimeoutMs);
  if (models.ok() && models->status == 200) {
    const Json body = Json::parse(models->body, nullptr, false);
    for (const Json& model : body.is_object() ? body.value("data", Json::array()) : Json::array()) {
      std::printf("model     %s\n", model.value("id", "").c_str());
    }
  }
  std::printf("state     %s\n", options.state_dir.c_str());
  std::fflush(stdout);
  const int listed = run_ps(options);
  return ready.ok() && ready->status == 200 ? listed : 1;
}

int run_logs(const ClusterOptions& options, const std::string& process, std::uint32_t lines) {
  const ClusterFiles files(options.state_dir);
  std::vector<std::filesystem::path> logs;
  for (const std::string& dir : {files.log_dir, files.pool_managerd_state + "/logs"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
      if (entry.is_regular_file() && entry.path().filename().string().find(process) != std::string::npos) {
        logs.push_back(entry.path());
      }
    }
  }
  std::sort(logs.begin(), logs.end());
  for (const auto& path : logs) std::printf("==> %s <==\n%s\n", path.c_str(), last_lines(path, lines).c_str());
  if (!logs.empty()) return 0;
  std::fprintf(stderr, "no log matches '%s' below %s\n", process.c_str(), options.state_dir.c_str());
  return 1;
}

int run_cancel(const ClusterOptions& options, const std::string& task_id) {
  const auto reply = http_post(base_url(options) + "/v1/tasks/" + task_id + "/cancel", "", kTimeoutMs);
  if (!reply.ok()) {
    std::fprintf(stderr, "%s\n", reply.error().c_str());
    return 1;
  }
  if (reply->status == 204) return 0;
  std::fprintf(stderr, "HTTP %ld: %s\n", reply->status, reply->body.c_str());
  return 1;
}

int run_down(const ClusterOptions& options) {
  const ClusterFiles files(options.state_dir);
  const auto pid = PidFile::owner(files.supervisor_pid);
  if (!pid) {
    std::fprintf(stderr, "no cluster is running\n");
    return 0;
  }
  ::kill(*pid, SIGTERM);
  const auto start = std::chrono::steady_clock::now();
  while (PidFile::owner(files.supervisor_pid) == pid) {
    if (std::chrono::steady_clock::now() - start > kDownDeadline) {
      std::fprintf(stderr, "the supervisor (pid %d) has not ended\n", static_cast<int>(*pid));
      return 1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  std::fprintf(stderr, "stopped\n");
  return 0;
}

}  // namespace orch::cli
