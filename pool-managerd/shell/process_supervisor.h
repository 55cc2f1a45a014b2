// Purpose: starts worker processes, reads what they write, and reaps them by pidfd (DESIGN-RULES L6, L8). A worker
// learns by the end of its lifeline pipe that this process is gone; it may be adopted by the next one, which watches it
// by pidfd without being its parent. Threads: spawn(), adopt() and signal() from any thread; callbacks come on the
// supervisor's own thread and must not block. Ownership: the callbacks' targets must outlive the supervisor. Bounds:
// children by the caller; a child's log by log_bytes_max twice (the file and its predecessor), logs_kept files per
// prefix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/ids.h"

namespace orch::pool {

struct ChildSpec {
  Incarnation inc;
  std::vector<std::string> arguments;  // [0]: path of the program
  std::vector<std::string> environment;
  std::string lifeline_line;  // written into the lifeline pipe, whose read end is the child's descriptor 3
  std::string output_path;    // of the named pipe that its standard output and error are
  std::string log_path;       // what comes out of it goes there
  std::string log_prefix;     // file names of older logs of the same replica
  int niceness = 0;
};

struct ChildExit {
  Incarnation inc;
  int exit_code = 0;  // when signal == 0
  int signal = 0;
  std::string last_line;  // at most 512 bytes
};

class ProcessSupervisor {
 public:
  struct Callbacks {
    std::function<void(Incarnation, std::int64_t pid)> on_started;
    std::function<void(Incarnation, std::string message, bool permanent)> on_failed;
    std::function<void(ChildExit)> on_exit;  // the child has been reaped
  };
  struct Options {
    std::size_t log_bytes_max = 8 * 1024 * 1024;
    std::size_t logs_kept = 8;
  };

  ProcessSupervisor(Options options, Callbacks callbacks);
  // Kills and reaps what is left.
  ~ProcessSupervisor();
  ProcessSupervisor(const ProcessSupervisor&) = delete;
  ProcessSupervisor& operator=(const ProcessSupervisor&) = delete;

  void spawn(ChildSpec spec);
  // A process that an earlier start of the manager spawned. Takes the pidfd. Its exit status cannot be learned.
  struct Adopted {
    Incarnation inc;
    int pid_fd = -1;
    std::string output_path;
    std::string log_path;
    std::string log_prefix;
  };
  void adopt(Adopted adopted);
  // No effect when that child has been reaped.
  void signal(Incarnation inc, int number);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace orch::pool
