#include "pool-managerd/shell/known_workers.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>
#include <utility>

#include "common/runtime/entropy.h"
#include "common/runtime/log.h"

namespace orch::pool {
namespace {

constexpr const char* kFile = "workers";
constexpr int kEndLimitMs = 5000;

bool read_secret(const std::string& hex, Secret& out) {
  if (hex.size() != 2 * out.size()) return false;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = orch::detail::hex_digit(hex[2 * i]);
    const int low = orch::detail::hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::uint8_t>(high * 16 + low);
  }
  return true;
}

}  // namespace

std::uint64_t process_start_time(std::int64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  if (!std::getline(file, text)) return 0;
  // The name in parentheses may contain anything; the fields behind it are numbers. The start time is field 22.
  const std::size_t behind = text.rfind(')');
  if (behind == std::string::npos) return 0;
  std::istringstream fields(text.substr(behind + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  std::uint64_t start = 0;
  fields >> start;
  return fields ? start : 0;
}

std::string command_digest(const std::vector<std::string>& arguments) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == kMemorySharersFlag) {
      ++i;
      continue;
    }
    for (const char each : arguments[i] + '\n') hash = (hash ^ static_cast<unsigned char>(each)) * 0x100000001b3ull;
  }
  return std::to_string(hash);
}

int open_process(const KnownWorker& worker) {
  const int pid_fd = static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(worker.pid), 0));
  if (pid_fd < 0) return -1;
  // The number may have been given to another process before the pidfd was opened; after it no more.
  if (process_start_time(worker.pid) == worker.start_time && worker.start_time != 0) return pid_fd;
  ::close(pid_fd);
  return -1;
}

bool end_process(int pid_fd) {
  ::syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, nullptr, 0);
  pollfd entry{.fd = pid_fd, .events = POLLIN, .revents = 0};
  const bool gone = ::poll(&entry, 1, kEndLimitMs) > 0;
  ::close(pid_fd);
  return gone;
}

std::vector<KnownWorker> KnownWorkers::left_behind() const {
  std::vector<KnownWorker> out;
  std::ifstream file(state_dir_.path() + "/" + kFile);
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    KnownWorker worker;
    std::string secret;
    fields >> worker.replica_id >> worker.inc.boot >> worker.inc.counter >> worker.pid >> worker.start_time >>
        worker.command >> secret;
    if (fields && read_secret(secret, worker.control_secret)) out.push_back(std::move(worker));
  }
  return out;
}

void KnownWorkers::remember(KnownWorker worker) {
  const Incarnation inc = worker.inc;
  workers_.insert_or_assign(inc, std::move(worker));
  write();
}

void KnownWorkers::forget(Incarnation inc) {
  if (workers_.erase(inc) > 0) write();
}

void KnownWorkers::write() const {
  std::ostringstream text;
  for (const auto& [inc, worker] : workers_) {
    text << worker.replica_id << ' ' << inc.boot << ' ' << inc.counter << ' ' << worker.pid << ' ' << worker.start_time
         << ' ' << worker.command << ' ' << runtime::to_hex(worker.control_secret) << '\n';
  }
  const auto written = state_dir_.write_file(kFile, text.str());
  // Without the line the worker is not adopted; it ends by itself after its orphan grace.
  if (!written.ok()) runtime::log_error("workers_not_written", {{"message", written.error().message}});
}

}  // namespace orch::pool
