#include "pool-managerd/shell/process_supervisor.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "common/base/check.h"
#include "pool-managerd/shell/child_output.h"

namespace orch::pool {
namespace {

constexpr int kChildLifelineFd = 3;

class Pipe {
 public:
  explicit Pipe(int flags) { ok_ = ::pipe2(fds_.data(), flags) == 0; }
  ~Pipe() {
    close_read();
    close_write();
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  bool ok() const { return ok_; }
  int read_end() const { return fds_[0]; }
  int write_end() const { return fds_[1]; }
  int take_read() { return std::exchange(fds_[0], -1); }
  int take_write() { return std::exchange(fds_[1], -1); }
  void close_read() {
    if (fds_[0] >= 0) ::close(take_read());
  }
  void close_write() {
    if (fds_[1] >= 0) ::close(take_write());
  }

 private:
  std::array<int, 2> fds_{-1, -1};
  bool ok_ = false;
};

// What the child needs between fork and exec, prepared before: only async-signal-safe calls are allowed there.
struct ChildPlan {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  int lifeline_fd = -1;
  int output_fd = -1;
  int error_fd = -1;  // errno of a failed exec goes there; closed by a successful one
  int niceness = 0;
};

[[noreturn]] void give_up(int error_fd) {
  const int error = errno;
  static_cast<void>(::write(error_fd, &error, sizeof error) == 0);
  ::_exit(127);
}

[[noreturn]] void become_child(const ChildPlan& plan) {
  if (plan.niceness != 0) ::setpriority(PRIO_PROCESS, 0, plan.niceness);
  // An ignored signal stays ignored over exec, and so does the mask.
  for (const int number : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // A group of its own: a Ctrl-C at the terminal reaches the manager alone, which then stops its workers in order.
  ::setpgid(0, 0);
  // Both pipes are moved out of the way of the numbers that are about to be assigned.
  const int error_fd = ::fcntl(plan.error_fd, F_DUPFD_CLOEXEC, 10);
  const int lifeline_fd = ::fcntl(plan.lifeline_fd, F_DUPFD_CLOEXEC, 10);
  const int output_fd = ::fcntl(plan.output_fd, F_DUPFD_CLOEXEC, 10);
  if (error_fd < 0 || lifeline_fd < 0 || output_fd < 0) give_up(plan.error_fd);
  const int null_fd = ::open("/dev/null", O_RDONLY);
  if (null_fd < 0 || ::dup2(null_fd, 0) < 0) give_up(error_fd);
  if (::dup2(output_fd, 1) < 0 || ::dup2(output_fd, 2) < 0) give_up(error_fd);
  if (::dup2(lifeline_fd, kChildLifelineFd) < 0) give_up(error_fd);
  // Everything else ends at exec, whoever opened it without O_CLOEXEC.
  ::syscall(SYS_close_range, static_cast<unsigned>(kChildLifelineFd + 1), UINT_MAX, CLOSE_RANGE_CLOEXEC);
  ::execve(plan.arguments[0], plan.arguments.data(), plan.environment.data());
  give_up(error_fd);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

bool cannot_change(int error) { return error == ENOENT || error == EACCES || error == ENOEXEC || error == ENOTDIR; }

}  // namespace

class ProcessSupervisor::Loop {
 public:
  Loop(Options options, Callbacks callbacks) : options_(options), callbacks_(std::move(callbacks)) {
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ORCH_CHECK(wake_fd_ >= 0);
    thread_ = std::thread([this] { run(); });
  }
  ~Loop() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake();
    thread_.join();
    ::close(wake_fd_);
  }

  void push(ChildSpec spec) {
    {
      const std::lock_guard lock(mutex_);
      spawns_.push_back(std::move(spec));
    }
    wake();
  }
  void push(Adopted adopted) {
    {
      const std::lock_guard lock(mutex_);
      adopted_.push_back(std::move(adopted));
    }
    wake();
  }
  void push(Incarnation inc, int number) {
    {
      const std::lock_guard lock(mutex_);
      signals_.emplace_back(inc, number);
    }
    wake();
  }

 private:
  struct Child {
    pid_t pid = 0;
    int pid_fd = -1;
    int lifeline_fd = -1;  // its end tells the child that we are gone; adopted: none
    std::unique_ptr<ChildOutput> output;
    bool ours = true;  // else adopted: init reaps it
  };

  void wake() const {
    const std::uint64_t one = 1;
    static_cast<void>(::write(wake_fd_, &one, sizeof one) == 0);
  }

  void run();
  void wait_for_news();
  void start(ChildSpec spec);
  void fail(Incarnation inc, const std::string& what, int error);
  bool reap(Incarnation inc, Child& child);

  const Options options_;
  const Callbacks callbacks_;
  int wake_fd_ = -1;
  std::mutex mutex_;
  std::vector<ChildSpec> spawns_;                     // guarded by mutex_
  std::vector<std::pair<Incarnation, int>> signals_;  // guarded by mutex_
  std::vector<Adopted> adopted_;                      // guarded by mutex_
  bool closing_ = false;                              // guarded by mutex_
  std::map<Incarnation, Child> children_;             // the thread's own
  std::thread thread_;
};

void ProcessSupervisor::Loop::run() {
  bool killed = false;
  for (;;) {
    std::vector<ChildSpec> spawns;
    std::vector<std::pair<Incarnation, int>> signals;
    std::vector<Adopted> adopted;
    bool closing = false;
    {
      const std::lock_guard lock(mutex_);
      adopted.swap(adopted_);
      spawns.swap(spawns_);
      signals.swap(signals_);
      closing = closing_;
    }
    for (const Adopted& each : adopted) {
      Child child;
      child.pid_fd = each.pid_fd;
      child.output = std::make_unique<ChildOutput>(ChildOutput::open_pipe(each.output_path), each.log_path,
                                                   each.log_prefix, options_.log_bytes_max, options_.logs_kept);
      child.ours = false;
      children_.emplace(each.inc, std::move(child));
    }
    if (!closing) {
      for (ChildSpec& spec : spawns) start(std::move(spec));
    }
    for (const auto& [inc, number] : signals) {
      const auto child = children_.find(inc);
      if (child != children_.end()) ::syscall(SYS_pidfd_send_signal, child->second.pid_fd, number, nullptr, 0);
    }
    if (closing && !std::exchange(killed, true)) {
      for (const auto& [inc, child] : children_) ::syscall(SYS_pidfd_send_signal, child.pid_fd, SIGKILL, nullptr, 0);
    }
    if (closing && children_.empty()) return;
    wait_for_news();
  }
}

void ProcessSupervisor::Loop::wait_for_news() {
  std::vector<pollfd> entries{{.fd = wake_fd_, .events = POLLIN, .revents = 0}};
  std::vector<Incarnation> owners;
  for (const auto& [inc, child] : children_) {
    entries.push_back({.fd = child.pid_fd, .events = POLLIN, .revents = 0});
    entries.push_back({.fd = child.output->fd(), .events = POLLIN, .revents = 0});  // -1: skipped
    owners.push_back(inc);
  }
  if (::poll(entries.data(), entries.size(), -1) < 0) return;  // EINTR: look again
  if (entries[0].revents != 0) {
    std::uint64_t count = 0;
    static_cast<void>(::read(wake_fd_, &count, sizeof count) == 0);
  }
  for (std::size_t i = 0; i < owners.size(); ++i) {
    Child& child = children_.at(owners[i]);
    if (entries[2 * i + 2].revents != 0) child.output->drain();
    if (entries[2 * i + 1].revents != 0 && reap(owners[i], child)) children_.erase(owners[i]);
  }
}

bool ProcessSupervisor::Loop::reap(Incarnation inc, Child& child) {
  if (!child.ours) {
    child.output->drain();
    const std::string line = child.output->last_line();
    ::close(child.pid_fd);
    callbacks_.on_exit(
        {.inc = inc, .last_line = "an adopted worker, its exit status is unknown" + (line.empty() ? "" : "; " + line)});
    return true;
  }
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(child.pid_fd), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
    return false;
  child.output->drain();
  ChildExit exit{.inc = inc, .last_line = child.output->last_line()};
  if (info.si_code == CLD_EXITED) {
    exit.exit_code = info.si_status;
  } else {
    exit.signal = info.si_status;
  }
  ::close(child.pid_fd);
  ::close(child.lifeline_fd);
  callbacks_.on_exit(std::move(exit));
  return true;
}

void ProcessSupervisor::Loop::fail(Incarnation inc, const std::string& what, int error) {
  callbacks_.on_failed(inc, what + ": " + std::strerror(error), cannot_change(error));
}

void ProcessSupervisor::Loop::start(ChildSpec spec) {
  Pipe lifeline(O_CLOEXEC);
  Pipe error(O_CLOEXEC);
  if (!lifeline.ok() || !error.ok()) return fail(spec.inc, "pipe", errno);
  Child child;
  const int output = ChildOutput::make_pipe(spec.output_path);
  if (output < 0) return fail(spec.inc, spec.output_path, errno);
  child.output =
      std::make_unique<ChildOutput>(output, spec.log_path, spec.log_prefix, options_.log_bytes_max, options_.logs_kept);
  // A few bytes into an empty pipe: never blocks.
  const auto line_size = static_cast<ssize_t>(spec.lifeline_line.size());
  if (::write(lifeline.write_end(), spec.lifeline_line.data(), spec.lifeline_line.size()) != line_size) {
    return fail(spec.inc, "lifeline", errno);
  }
  ChildPlan plan{.arguments = pointers(spec.arguments),
                 .environment = pointers(spec.environment),
                 .lifeline_fd = lifeline.read_end(),
                 .output_fd = output,
                 .error_fd = error.write_end(),
                 .niceness = spec.niceness};
  const pid_t pid = ::fork();
  if (pid < 0) return fail(spec.inc, "fork", errno);
  if (pid == 0) become_child(plan);

  error.close_write();
  lifeline.close_read();
  const int pid_fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  ORCH_CHECK(pid_fd >= 0);  // the child is ours and not reaped, so it exists
  int exec_error = 0;
  ssize_t count = 0;
  do {
    count = ::read(error.read_end(), &exec_error, sizeof exec_error);  // ends with exec or with the child
  } while (count < 0 && errno == EINTR);
  if (count == static_cast<ssize_t>(sizeof exec_error)) {
    siginfo_t info{};
    ::waitid(P_PIDFD, static_cast<id_t>(pid_fd), &info, WEXITED);
    ::close(pid_fd);
    return fail(spec.inc, spec.arguments[0], exec_error);
  }
  child.pid = pid;
  child.pid_fd = pid_fd;
  child.lifeline_fd = lifeline.take_write();
  children_.emplace(spec.inc, std::move(child));
  callbacks_.on_started(spec.inc, pid);
}

ProcessSupervisor::ProcessSupervisor(Options options, Callbacks callbacks)
    : loop_(std::make_unique<Loop>(options, std::move(callbacks))) {}
ProcessSupervisor::~ProcessSupervisor() = default;
void ProcessSupervisor::spawn(ChildSpec spec) { loop_->push(std::move(spec)); }
void ProcessSupervisor::adopt(Adopted adopted) { loop_->push(std::move(adopted)); }
void ProcessSupervisor::signal(Incarnation inc, int number) { loop_->push(inc, number); }

}  // namespace orch::pool
