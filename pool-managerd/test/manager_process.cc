#include "pool-managerd/test/manager_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace orch::pool {

using nlohmann::json;

bool wait_until(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

bool is_alive(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(in, text);
  const std::size_t end = text.rfind(')');
  return end != std::string::npos && end + 2 < text.size() && text[end + 2] != 'Z' && text[end + 2] != 'X';
}

ManagerProcess::ManagerProcess() {
  script("");
  config["state_dir"] = state_dir();
  config["grpc"] = {{"listen", target()}};
  config["http"] = {{"listen", "127.0.0.1:0"}};
  config["lease"] = {{"ttl_ms", 3000}, {"orphan_grace_ms", 1000}};
  config["restart"] = {{"initial_ms", 50}, {"jitter_percent", 0}};
  config["stop"] = {{"term_grace_ms", 300}};
  config["pools"] = json::array({{{"id", "p"},
                                  {"engine", "native"},
                                  {"model", {{"name", "m"}, {"path", dir() + "/model"}, {"digest", kDigest}}},
                                  {"slots", 2}}});
}

ManagerProcess::~ManagerProcess() {
  if (pid_ > 0) {
    signal(SIGKILL);
    wait();
  }
}

void ManagerProcess::script(const std::string& faults) const { std::ofstream(dir() + "/model") << faults; }

void ManagerProcess::start() {
  json document = json::object();
  for (const auto& [key, value] : config) document[key] = value;
  std::ofstream(dir() + "/config.yaml") << document.dump();  // JSON is YAML
  std::error_code ignored;
  std::filesystem::remove(state_dir() + "/http.port", ignored);
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "pool-managerd";
  const std::string config_path = dir() + "/config.yaml";
  const std::string log = dir() + "/errors";
  pid_ = ::fork();
  ASSERT_GE(pid_, 0);
  if (pid_ != 0) return;
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(fd, 1);
  ::dup2(fd, 2);
  ::execl(program.c_str(), program.c_str(), "--config", config_path.c_str(), nullptr);
  ::_exit(127);
}

void ManagerProcess::signal(int number) const { ::kill(pid_, number); }

int ManagerProcess::wait() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, 0) != pid_) return -1;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

std::string ManagerProcess::errors() const {
  std::stringstream text;
  text << std::ifstream(dir() + "/errors").rdbuf();
  return text.str();
}

std::optional<std::string> ManagerProcess::http_get(const std::string& path) const {
  return http("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
}

std::pair<int, json> ManagerProcess::http_post(const std::string& path, const json& body,
                                               const std::string& content_type) const {
  const std::string text = body.is_null() ? std::string() : body.dump();
  const auto reply =
      http("POST " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: " + content_type +
           "\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text);
  if (!reply || reply->size() < 12) return {0, json::object()};
  const std::size_t begin = reply->find("\r\n\r\n");
  return {std::atoi(reply->c_str() + 9), json::parse(reply->substr(begin + 4), nullptr, false)};
}

std::optional<std::string> ManagerProcess::http(const std::string& request) const {
  std::uint16_t port = 0;
  std::ifstream(state_dir() + "/http.port") >> port;
  if (port == 0) return std::nullopt;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string reply;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    static_cast<void>(::send(fd, request.data(), request.size(), MSG_NOSIGNAL));
    std::array<char, 4096> buffer;
    for (ssize_t count = 0; (count = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0;) {
      reply.append(buffer.data(), static_cast<std::size_t>(count));
    }
  }
  ::close(fd);
  if (reply.empty()) return std::nullopt;
  return reply;
}

json ManagerProcess::replica() const {
  const auto reply = http_get("/v1/replicas");
  if (!reply) return json::object();
  const std::size_t body = reply->find("\r\n\r\n");
  if (body == std::string::npos) return json::object();
  const json document = json::parse(reply->substr(body + 4), nullptr, false);
  return document.is_object() ? document["replicas"].at(0) : json::object();
}

json ManagerProcess::wait_replica(const std::function<bool(const json&)>& condition) const {
  json seen;
  const bool held = wait_until([&] {
    seen = replica();
    return !seen.empty() && condition(seen);
  });
  EXPECT_TRUE(held) << seen.dump(1) << errors();
  return seen;
}

json ManagerProcess::wait_ready() const {
  return wait_replica([](const json& r) { return r["state"] == "ready"; });
}

}  // namespace orch::pool
