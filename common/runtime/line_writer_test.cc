#include "common/runtime/line_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <vector>

namespace orch::runtime {
namespace {

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0); }
  ~Pipe() {
    ::close(ends[0]);
    if (ends[1] >= 0) ::close(ends[1]);
  }
  std::string read_all() {
    ::close(ends[1]);
    ends[1] = -1;
    std::string out;
    std::array<char, 4096> part{};
    ssize_t got = 0;
    while ((got = ::read(ends[0], part.data(), part.size())) > 0)
      out.append(part.data(), static_cast<std::size_t>(got));
    return out;
  }
  std::array<int, 2> ends{-1, -1};
};

TEST(LineWriter, writes_every_line_of_every_thread_whole_and_in_its_order) {
  Pipe pipe;
  {
    LineWriter writer(pipe.ends[1], 1024 * 1024);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&writer, t] {
        for (int line = 0; line < 100; ++line) writer.push(std::to_string(t) + " " + std::to_string(line));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const std::string text = pipe.read_all();
  std::array<int, 3> next{};
  std::size_t lines = 0;
  for (std::size_t at = 0; at < text.size(); ++lines) {
    const std::size_t end = text.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const auto thread = static_cast<std::size_t>(text[at] - '0');
    ASSERT_LT(thread, next.size());
    EXPECT_EQ(text.substr(at + 2, end - at - 2), std::to_string(next[thread]++));
    at = end + 1;
  }
  EXPECT_EQ(lines, 300u);
}

TEST(LineWriter, what_does_not_fit_is_dropped_and_counted) {
  Pipe pipe;
  {
    LineWriter writer(pipe.ends[1], 8);
    writer.push("much longer than the buffer");
    writer.push("ok");
  }
  EXPECT_EQ(pipe.read_all(), "ok\n{\"level\":\"warn\",\"event\":\"log_lines_dropped\",\"lines\":1}\n");
}

}  // namespace
}  // namespace orch::runtime
