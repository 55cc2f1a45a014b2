// One child process, known by its pid: spawn, signal, wait. POSIX only; used from one thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace orch::cli {

struct SpawnOptions {
  std::vector<std::string> command;  // absolute program, then arguments
  std::string log_file;              // standard output and error are appended to it
  bool new_session = false;          // detach from the terminal
  bool die_with_parent = false;      // SIGTERM when the spawning thread's process ends
};

// The pid, or what failed. The child has its standard input closed and no other descriptor of ours.
Result<pid_t, std::string> spawn(const SpawnOptions& options);

// What a short command writes on standard output and error, and how it ended; at most 64 KiB and 60 s, then it is
// killed.
struct Captured {
  int exit_code = 0;  // 128 + the signal's number when a signal ended it
  std::string output;
};
Result<Captured, std::string> capture(const std::vector<std::string>& command);

struct Exit {
  bool signaled = false;
  int code = 0;  // exit code, or the signal's number
  std::string to_string() const;
};

// The exit of `pid` if it has ended (reaps it), nullopt while it runs.
std::optional<Exit> poll_exit(pid_t pid);

bool process_alive(pid_t pid);

// Whether another process holds the lock (flock) of that file.
bool is_locked(const std::string& path);

// A pid file that only its living owner holds locked, so that a recycled pid is never signalled.
class PidFile {
 public:
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  PidFile(PidFile&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  PidFile& operator=(PidFile&&) = delete;
  ~PidFile();

  // Locks and writes our pid; error when another process still holds it after `patience`: owner() takes the lock too,
  // for as long as it looks.
  static Result<PidFile, std::string> acquire(const std::string& path, std::chrono::milliseconds patience);
  // The pid of the process that holds the lock; nullopt when nobody does.
  static std::optional<pid_t> owner(const std::string& path);

 private:
  explicit PidFile(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace orch::cli
