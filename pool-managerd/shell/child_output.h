// What one worker writes: a pipe on our side, a log file of bounded size, and the last line for people. Supervisor
// thread only.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace orch::pool {

class ChildOutput {
 public:
  // Takes the pipe's read end. The file is made when something is written; older ones of `prefix` beyond `kept` go.
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
