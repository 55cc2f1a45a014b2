// A real pool-managerd in a directory of its own, for process tests. Everything is waited for by looking, with a limit.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/testing/temp_folder.h"

namespace orch::pool {

// False when `condition` did not become true within the limit.
bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds limit = std::chrono::seconds(20));
// A process that has died counts as gone even while nobody has reaped it.
bool is_alive(int pid);

class ManagerProcess {
 public:
  static constexpr char kDigest[] = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

  ManagerProcess();
  ~ManagerProcess();  // SIGKILL when it still runs; removes the directory
  ManagerProcess(const ManagerProcess&) = delete;
  ManagerProcess& operator=(const ManagerProcess&) = delete;

  // Keys added to the top level of the configuration, as JSON text values.
  std::map<std::string, nlohmann::json> config;
  // Writes the worker's script (see fake_worker.cc).
  void script(const std::string& faults) const;

  void start();
  int pid() const { return pid_; }
  void signal(int number) const;
  // Exit code, or 1000 + signal.
  int wait();
  std::string errors() const;  // what it wrote

  std::string dir() const { return folder_.path(); }
  std::string state_dir() const { return dir() + "/state"; }
  std::string target() const { return "unix:" + dir() + "/m.sock"; }
  std::optional<std::string> http_get(const std::string& path) const;
  // Status and body.
  std::pair<int, nlohmann::json> http_post(const std::string& path, const nlohmann::json& body,
                                           const std::string& content_type = "application/json") const;
  // Empty when it does not answer.
  nlohmann::json replica() const;
  // The first replica once `condition` holds for it; fails the test otherwise.
  nlohmann::json wait_replica(const std::function<bool(const nlohmann::json&)>& condition) const;
  nlohmann::json wait_ready() const;

 private:
  std::optional<std::string> http(const std::string& request) const;

  orch::testing::TempFolder folder_;
  int pid_ = -1;
};

}  // namespace orch::pool
