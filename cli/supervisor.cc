#include "cli/supervisor.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>

#include "cli/log_file.h"
#include "cli/process.h"

namespace orch::cli {

namespace {

constexpr double kBackoffFirst = 0.5;  // seconds
constexpr double kBackoffMax = 30.0;
constexpr double kStableAfter = 60.0;   // a child that ran this long starts over at kBackoffFirst
constexpr double kStopDeadline = 40.0;  // per child: its own drain deadline (30 s) and some
constexpr int kExitConfigFirst = 64;
constexpr int kExitConfigLast = 78;
constexpr double kLogsEvery = 1.0;                          // their sizes are looked at
constexpr std::size_t kLogBytesMax = std::size_t{8} << 20;  // twice: the file and its predecessor

double monotonic_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Child {
  std::string name;
  std::string config;
  std::string log;
  std::optional<pid_t> pid = std::nullopt;
  double started = 0;
  double start_at = 0;
  double backoff = kBackoffFirst;
};

// Waits for one of the blocked signals for at most `seconds`; 0 on timeout.
int wait_signal(const sigset_t& signals, double seconds) {
  timespec timeout{};
  timeout.tv_sec = static_cast<time_t>(seconds);
  timeout.tv_nsec = static_cast<long>((seconds - static_cast<double>(timeout.tv_sec)) * 1e9);
  const int signal = ::sigtimedwait(&signals, nullptr, &timeout);
  return signal < 0 ? 0 : signal;
}

class Supervisor {
 public:
  Supervisor(const SupervisorOptions& options, const ClusterFiles& files) : options_(options), files_(files) {
    // pool-managerd first: orchestratord then finds its socket at the first try.
    children_[0] = {
        .name = "pool-managerd", .config = files.pool_managerd_config, .log = files.log_dir + "/pool-managerd.log"};
    children_[1] = {
        .name = "orchestratord", .config = files.orchestratord_config, .log = files.log_dir + "/orchestratord.log"};
  }

  int run() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, signal);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    for (;;) {
      bound_logs();
      double next = kLogsEvery;
      for (Child& child : children_) {
        reap(child);
        if (failed_) break;
        if (!child.pid && monotonic_seconds() >= child.start_at) start(child);
        if (!child.pid) next = std::min(next, std::max(0.01, child.start_at - monotonic_seconds()));
      }
      if (failed_) {
        stop(signals);
        return 1;
      }
      const int signal = wait_signal(signals, next);
      if (signal == SIGTERM || signal == SIGINT) {
        stop(signals);
        return 0;
      }
    }
  }

 private:
  void start(Child& child) {
    const auto pid = spawn({.command = {options_.binary_dir + "/" + child.name, "--config", child.config},
                            .log_file = child.log,
                            .die_with_parent = true});
    child.started = monotonic_seconds();
    if (pid.ok()) {
      child.pid = *pid;
      return;
    }
    fail(child.name + " could not be started: " + pid.error());
  }

  void reap(Child& child) {
    if (!child.pid) return;
    const auto exit = poll_exit(*child.pid);
    if (!exit) return;
    child.pid.reset();
    std::fprintf(stderr, "%s ended with %s\n", child.name.c_str(), exit->to_string().c_str());
    if (!exit->signaled && exit->code >= kExitConfigFirst && exit->code <= kExitConfigLast) {
      fail(child.name + " refused to start (" + exit->to_string() + "): " + last_line(child.log));
      return;
    }
    const double now = monotonic_seconds();
    if (now - child.started > kStableAfter) child.backoff = kBackoffFirst;
    child.start_at = now + child.backoff;
    child.backoff = std::min(kBackoffMax, child.backoff * 2);
  }

  // OC-CLI-1007. A log that cannot be cut is tried again; to say so here would only make another one grow.
  void bound_logs() {
    static_cast<void>(bound_log(files_.supervisor_log, kLogBytesMax).ok());
    for (const Child& child : children_) static_cast<void>(bound_log(child.log, kLogBytesMax).ok());
  }

  void fail(const std::string& reason) {
    failed_ = true;
    std::fprintf(stderr, "%s\n", reason.c_str());
    static_cast<void>(write_file_atomically(files_.supervisor_failure, reason + "\n").ok());
  }

  // orchestratord first: it drains while the workers still serve.
  void stop(const sigset_t& signals) {
    for (std::size_t i = children_.size(); i-- > 0;) {
      Child& child = children_[i];
      if (!child.pid) continue;
      ::kill(*child.pid, SIGTERM);
      const double deadline = monotonic_seconds() + kStopDeadline;
      while (child.pid && monotonic_seconds() < deadline) {
        wait_signal(signals, 0.2);
        if (poll_exit(*child.pid)) child.pid.reset();
      }
      if (child.pid) ::kill(*child.pid, SIGKILL);
    }
  }

  SupervisorOptions options_;
  const ClusterFiles& files_;
  std::array<Child, 2> children_;
  bool failed_ = false;
};

}  // namespace

int run_supervisor(const SupervisorOptions& options) {
  const ClusterFiles files(options.state_dir);
  ::unlink(files.supervisor_failure.c_str());
  auto pid_file = PidFile::acquire(files.supervisor_pid);
  if (!pid_file.ok()) {
    std::fprintf(stderr, "%s\n", pid_file.error().c_str());
    return 1;
  }
  return Supervisor(options, files).run();
}

}  // namespace orch::cli
