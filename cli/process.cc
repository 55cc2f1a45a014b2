#include "cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>

namespace orch::cli {

namespace {

constexpr int kExecFailed = 127;

[[noreturn]] void run_child(const SpawnOptions& options, char* const* argv, pid_t parent) {
  if (options.die_with_parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(kExecFailed);  // the parent ended between fork and prctl
  }
  if (options.new_session) ::setsid();
  const int null = ::open("/dev/null", O_RDONLY);
  const int log = ::open(options.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (null < 0 || log < 0) ::_exit(kExecFailed);
  ::dup2(null, 0);
  ::dup2(log, 1);
  ::dup2(log, 2);
  ::close_range(3, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(argv[0], argv);
  const char* reason = std::strerror(errno);
  static_cast<void>(!::write(2, reason, std::strlen(reason)));
  ::_exit(kExecFailed);
}

}  // namespace

Result<pid_t, std::string> spawn(const SpawnOptions& options) {
  ORCH_CHECK(!options.command.empty());
  if (::access(options.command[0].c_str(), X_OK) != 0) {
    return Err{options.command[0] + ": " + std::strerror(errno)};
  }
  std::vector<char*> argv;
  argv.reserve(options.command.size() + 1);
  for (const std::string& part : options.command) argv.push_back(const_cast<char*>(part.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return Err{std::string("fork: ") + std::strerror(errno)};
  if (pid == 0) run_child(options, argv.data(), parent);
  return pid;
}

Result<Captured, std::string> capture(const std::vector<std::string>& command) {
  ORCH_CHECK(!command.empty());
  constexpr std::size_t kOutputBytesMax = std::size_t{64} << 10;
  constexpr auto kTimeMax = std::chrono::seconds(60);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Err{std::string("pipe: ") + std::strerror(errno)};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const std::string& part : command) argv.push_back(const_cast<char*>(part.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int failed = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  if (failed != 0) {
    ::close(ends[0]);
    return Err{command[0] + ": " + std::strerror(failed)};
  }
  Captured out;
  const auto end = std::chrono::steady_clock::now() + kTimeMax;
  char block[4096];
  while (out.output.size() < kOutputBytesMax) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    pollfd readable{ends[0], POLLIN, 0};
    if (left.count() <= 0 || ::poll(&readable, 1, static_cast<int>(left.count())) == 0) break;
    const ssize_t bytes = ::read(ends[0], block, sizeof block);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) break;
    out.output.append(block, static_cast<std::size_t>(bytes));
  }
  ::close(ends[0]);
  int status = 0;
  // Nothing more is read from it: a command that still runs has said too much or taken too long.
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() >= end || out.output.size() >= kOutputBytesMax) ::kill(pid, SIGKILL);
    pollfd none{-1, 0, 0};
    ::poll(&none, 1, 5);
  }
  out.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return out;
}

std::string Exit::to_string() const { return (signaled ? "signal " : "exit code ") + std::to_string(code); }

std::optional<Exit> poll_exit(pid_t pid) {
  int status = 0;
  if (::waitpid(pid, &status, WNOHANG) != pid) return std::nullopt;
  if (WIFSIGNALED(status)) return Exit{true, WTERMSIG(status)};
  return Exit{false, WEXITSTATUS(status)};
}

bool process_alive(pid_t pid) { return ::kill(pid, 0) == 0 || errno == EPERM; }

bool is_locked(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool locked = ::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return locked;
}

PidFile::~PidFile() {
  if (fd_ >= 0) ::close(fd_);  // releases the lock
}

Result<PidFile, std::string> PidFile::acquire(const std::string& path, std::chrono::milliseconds patience) {
  constexpr int kLookEveryMs = 20;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return Err{"cannot open " + path + ": " + std::strerror(errno)};
  const auto end = std::chrono::steady_clock::now() + patience;
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (std::chrono::steady_clock::now() >= end) {
      ::close(fd);
      return Err{path + " is held by another process"};
    }
    pollfd none{-1, 0, 0};
    ::poll(&none, 1, kLookEveryMs);
  }
  const std::string text = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    ::close(fd);
    return Err{"cannot write " + path + ": " + std::strerror(errno)};
  }
  return PidFile(fd);
}

std::optional<pid_t> PidFile::owner(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::optional<pid_t> owner;
  if (::flock(fd, LOCK_SH | LOCK_NB) != 0) {
    char text[32] = {};
    if (::pread(fd, text, sizeof text - 1, 0) > 0) {
      const long pid = std::strtol(text, nullptr, 10);
      if (pid > 0) owner = static_cast<pid_t>(pid);
    }
  }
  ::close(fd);
  return owner;
}

}  // namespace orch::cli
