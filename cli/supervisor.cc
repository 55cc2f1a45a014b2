#include "cli/supervisor.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
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
// A supervisor that was killed leaves children that stop by themselves; they take no longer than kStopDeadline.
constexpr double kPredecessorDeadline = kStopDeadline + 5.0;
constexpr double kLookEvery = 0.2;                          // for the predecessor's end
constexpr double kLogsEvery = 1.0;                          // their sizes are looked at
constexpr std::size_t kLogBytesMax = std::size_t{8} << 20;  // twice: the file and its predecessor
constexpr std::chrono::milliseconds kLockPatience{1000};

double monotonic_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

struct Child {
  std::string name;
  std::string config;
  std::string log;
  std::string port_file;  // it writes this once it is up
  std::string lock_file;  // it holds this for its whole life
  std::optional<pid_t> pid = std::nullopt;
  bool was_up = false;  // in this supervisor's life
  bool waits = false;   // for a predecessor that still holds lock_file
  double started = 0;
  double start_at = 0;
  double backoff = kBackoffFirst;
  unsigned ends = 0;    // in a row
  std::string ended{};  // why the last time; empty: it stays up
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
    children_[0] = {.name = "pool-managerd",
                    .config = files.pool_managerd_config,
                    .log = files.log_dir + "/pool-managerd.log",
                    .port_file = files.manager_http_port,
                    .lock_file = files.pool_managerd_state + "/lock"};
    children_[1] = {.name = "orchestratord",
                    .config = files.orchestratord_config,
                    .log = files.log_dir + "/orchestratord.log",
                    .port_file = files.http_port,
                    .lock_file = files.orchestratord_state + "/lock"};
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
        if (child.pid && monotonic_seconds() - child.started > kStableAfter) stays_up(child);
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
    if (!child.was_up) {
      if (waits_for_predecessor(child)) return;
      ::unlink(child.port_file.c_str());
    }
    const auto pid = spawn({.command = {options_.binary_dir + "/" + child.name, "--config", child.config},
                            .log_file = child.log,
                            .die_with_parent = true});
    child.started = monotonic_seconds();
    if (pid.ok()) {
      child.pid = *pid;
      return;
    }
    give_up_or_retry(child, child.name + " could not be started: " + pid.error());
  }

  bool waits_for_predecessor(Child& child) {
    const double now = monotonic_seconds();
    if (now >= predecessor_deadline_ || !is_locked(child.lock_file)) return false;
    if (!child.waits) std::fprintf(stderr, "%s waits: %s is in use\n", child.name.c_str(), child.lock_file.c_str());
    child.waits = true;
    child.start_at = now + kLookEvery;
    return true;
  }

  void reap(Child& child) {
    if (!child.pid) return;
    const auto exit = poll_exit(*child.pid);
    if (!exit) return;
    child.pid.reset();
    child.was_up = child.was_up || ::access(child.port_file.c_str(), F_OK) == 0;
    if (monotonic_seconds() - child.started > kStableAfter) stays_up(child);
    const std::string ended = child.name + " ended with " + exit->to_string();
    if (exit->signaled || exit->code < kExitConfigFirst || exit->code > kExitConfigLast) {
      retry(child, ended);
    } else {
      std::fprintf(stderr, "%s\n", ended.c_str());
      give_up_or_retry(child, child.name + " refused to start (" + exit->to_string() + "): " + last_line(child.log));
    }
  }

  // OC-CLI-1006: what a child refuses at its first start its user has to correct; what has worked once fails by
  // something that passes (a full disk, a lock, no memory for a process).
  void give_up_or_retry(Child& child, const std::string& reason) {
    if (child.was_up) {
      retry(child, reason);
    } else {
      fail(reason);
    }
  }

  void retry(Child& child, const std::string& reason) {
    std::fprintf(stderr, "%s; started again in %.1f s\n", reason.c_str(), child.backoff);
    child.start_at = monotonic_seconds() + child.backoff;
    child.backoff = std::min(kBackoffMax, child.backoff * 2);
    ++child.ends;
    child.ended = reason;
    tell_restarts();
  }

  void stays_up(Child& child) {
    child.backoff = kBackoffFirst;
    if (child.ended.empty()) return;
    child.ends = 0;
    child.ended.clear();
    tell_restarts();
  }

  // OC-CLI-1012. What cannot be written stands in the log.
  void tell_restarts() {
    std::string text;
    for (const Child& child : children_) {
      if (child.ended.empty()) continue;
      const std::string times = std::to_string(child.ends) + (child.ends == 1 ? " time" : " times in a row");
      text += child.name + " went down " + times + ", last: " + child.ended + "\n";
    }
    if (text.empty()) {
      ::unlink(files_.supervisor_restarts.c_str());
    } else {
      static_cast<void>(write_file_atomically(files_.supervisor_restarts, text).ok());
    }
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
  const double predecessor_deadline_ = monotonic_seconds() + kPredecessorDeadline;
  bool failed_ = false;
};

}  // namespace

int run_supervisor(const SupervisorOptions& options) {
  const ClusterFiles files(options.state_dir);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is a full disk to a log, not the end of the cluster
  auto pid_file = PidFile::acquire(files.supervisor_pid, kLockPatience);
  if (!pid_file.ok()) {
    std::fprintf(stderr, "%s\n", pid_file.error().c_str());
    return 1;
  }
  ::unlink(files.supervisor_failure.c_str());
  ::unlink(files.supervisor_restarts.c_str());
  return Supervisor(options, files).run();
}

}  // namespace orch::cli
