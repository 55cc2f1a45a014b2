// Purpose: lines to a file descriptor from a thread of its own, many per system call: after the first of a burst it
// waits a little for the others, so a busy process pays for a wakeup and a write every few milliseconds. Threads:
// push() from any. Bounded: what finds the buffer full is dropped and counted, and a line of its own says so.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace orch::runtime {

class LineWriter {
 public:
  LineWriter(int descriptor, std::size_t bytes_max);
  ~LineWriter();  // writes what waits
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  void push(std::string_view line);  // without its newline

 private:
  void run();
  void write_all(std::string_view text) const;

  const int descriptor_;
  const std::size_t bytes_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string waiting_;
  std::uint64_t dropped_ = 0;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace orch::runtime
