#include "pool-managerd/shell/child_output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/testing/temp_folder.h"

namespace orch::pool {
namespace {

struct ChildOutputTest : ::testing::Test {
  ChildOutputTest() {
    if (::pipe2(pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
  }
  ~ChildOutputTest() override { ::close(pipe[1]); }
  void child_writes(const std::string& text) {
    ASSERT_EQ(::write(pipe[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  orch::testing::TempFolder folder;
  const std::filesystem::path dir = folder.path();
  std::array<int, 2> pipe{-1, -1};
};

TEST_F(ChildOutputTest, keeps_the_last_line_as_printable_text) {
  ChildOutput output(pipe[0], dir / "r-1.1.log", "r-", 1000, 8);
  EXPECT_EQ(output.last_line(), "");
  child_writes("first\nsecond \x01\xC3\xA4\n\n");
  output.drain();
  EXPECT_EQ(output.last_line(), "second ???");
  child_writes(std::string(2000, 'x'));
  output.drain();
  EXPECT_EQ(output.last_line(), std::string(512, 'x'));
}

TEST_F(ChildOutputTest, a_log_is_bounded_by_one_rotation) {
  ChildOutput output(pipe[0], dir / "r-1.1.log", "r-", 1000, 8);
  for (int i = 0; i < 50; ++i) {
    child_writes(std::string(99, 'a') + "\n");
    output.drain();
  }
  std::uintmax_t bytes = 0;
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    bytes += entry.file_size();
    ++files;
  }
  EXPECT_EQ(files, 2u);
  EXPECT_LE(bytes, 2000u);
  EXPECT_GE(bytes, 1000u);
}

TEST_F(ChildOutputTest, old_logs_of_the_same_replica_go_and_others_stay) {
  for (int i = 0; i < 5; ++i) {
    const auto path = dir / ("r-1." + std::to_string(i) + ".log");
    std::ofstream(path) << i;
    std::filesystem::last_write_time(path, std::filesystem::file_time_type(std::chrono::seconds(i)));
  }
  std::ofstream(dir / "r-7-1.0.log") << "another replica whose id begins alike";
  const ChildOutput output(pipe[0], dir / "r-1.5.log", "r-", 1000, 3);
  EXPECT_FALSE(std::filesystem::exists(dir / "r-1.2.log"));
  EXPECT_TRUE(std::filesystem::exists(dir / "r-1.3.log"));
  EXPECT_TRUE(std::filesystem::exists(dir / "r-1.4.log"));
  EXPECT_TRUE(std::filesystem::exists(dir / "r-1.5.log"));
  EXPECT_TRUE(std::filesystem::exists(dir / "r-7-1.0.log"));
}

// A worker's pipe has no end while somebody holds it: what an adopted one writes later is read through the same one.
TEST_F(ChildOutputTest, OC_POOL_3048_the_pipe_outlives_its_writers) {
  const std::string path = dir / "r-1.1.out";
  ChildOutput output(ChildOutput::make_pipe(path), dir / "r-1.1.log", "r-", 1000, 8);
  for (const std::string line : {"first", "second"}) {
    const int writer = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    ASSERT_GE(writer, 0) << line;
    ASSERT_EQ(::write(writer, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    ASSERT_EQ(::write(writer, "\n", 1), 1);
    ::close(writer);
    output.drain();
    EXPECT_EQ(output.last_line(), line);
    EXPECT_GE(output.fd(), 0) << line;
  }
}

}  // namespace
}  // namespace orch::pool
