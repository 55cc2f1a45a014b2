// What one worker writes: a named pipe on our side, a log file of bounded size, and the last line for people
// (OC-POOL-3048). Both ends of the pipe are open for reading and writing and never block: a worker goes on when nobody
// reads, and what it has written by then, kPipeBytes at most, is there for the next manager. Supervisor thread only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace orch::pool {

class ChildOutput {
 public:
  static constexpr int kPipeBytes = 1 << 20;

  // A new pipe at `path` in place of what is there. -1: errno says why.
  static int make_pipe(const std::string& path);
  // Another end of it, as the worker's standard output or for a manager that has come back.
  static int open_pipe(const std::string& path);

  // Takes the pipe's end; -1: nothing can be read. Goes on with the file that is there; older ones of `prefix` beyond
  // `kept` go.
  ChildOutput(int pipe_fd, std::string path, const std::string& prefix, std::size_t bytes_max, std::size_t kept);
  ~ChildOutput();
  ChildOutput(const ChildOutput&) = delete;
  ChildOutput& operator=(const ChildOutput&) = delete;

  int fd() const { return pipe_fd_; }  // -1 once it has ended
  // Everything that is there now, without waiting.
  void drain();
  // The last line that is not empty, at most 512 bytes of printable ASCII.
  std::string last_line() const;

 private:
  void append(std::string_view bytes);
  void rotate();

  int pipe_fd_;
  int file_fd_ = -1;
  std::string path_;
  std::size_t bytes_max_;
  std::size_t written_ = 0;
  std::string line_;       // being received, bounded
  std::string last_line_;  // complete
};

}  // namespace orch::pool
