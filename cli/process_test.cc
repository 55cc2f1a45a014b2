#include "cli/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "common/testing/temp_folder.h"

namespace orch::cli {
namespace {

constexpr std::chrono::milliseconds kAtOnce{0};

Exit wait_for(pid_t pid) {
  int status = 0;
  ORCH_CHECK(::waitpid(pid, &status, 0) == pid);
  if (WIFSIGNALED(status)) return {true, WTERMSIG(status)};
  return {false, WEXITSTATUS(status)};
}

TEST(Process, reports_exit_code_and_collects_output) {
  const orch::testing::TempFolder folder;
  const std::string log = folder.path() + "/log";
  const auto pid = spawn({.command = {"/bin/sh", "-c", "echo heard; exit 7"}, .log_file = log});
  ASSERT_TRUE(pid.ok());
  const Exit exit = wait_for(*pid);
  EXPECT_FALSE(exit.signaled);
  EXPECT_EQ(exit.code, 7);
  std::stringstream text;
  text << std::ifstream(log).rdbuf();
  EXPECT_EQ(text.str(), "heard\n");
}

TEST(Process, a_missing_program_is_an_error_with_its_name) {
  const orch::testing::TempFolder folder;
  const auto pid = spawn({.command = {"/no/such/program"}, .log_file = folder.path() + "/log"});
  ASSERT_FALSE(pid.ok());
  EXPECT_NE(pid.error().find("/no/such/program"), std::string::npos);
}

TEST(PidFile, names_its_owner_only_while_the_owner_lives) {
  const orch::testing::TempFolder folder;
  const std::string path = folder.path() + "/pid";
  EXPECT_FALSE(PidFile::owner(path).has_value());
  {
    auto held = PidFile::acquire(path, kAtOnce);
    ASSERT_TRUE(held.ok());
    EXPECT_EQ(PidFile::owner(path), ::getpid());
    EXPECT_FALSE(PidFile::acquire(path, kAtOnce).ok());
  }
  EXPECT_FALSE(PidFile::owner(path).has_value());
}

TEST(PidFile, OC_CLI_1010_a_look_that_passes_is_waited_for) {
  const orch::testing::TempFolder folder;
  const std::string path = folder.path() + "/pid";
  const int look = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(look, 0);
  ASSERT_EQ(::flock(look, LOCK_SH | LOCK_NB), 0);
  EXPECT_FALSE(PidFile::acquire(path, kAtOnce).ok());
  std::atomic<bool> tried = false;
  std::thread starter([&] {
    tried = true;
    EXPECT_TRUE(PidFile::acquire(path, std::chrono::seconds(30)).ok());
  });
  while (!tried) std::this_thread::yield();
  ::close(look);
  starter.join();
}

TEST(PidFile, OC_CLI_1006_a_lock_is_seen_and_an_absent_file_is_free) {
  const orch::testing::TempFolder folder;
  const std::string path = folder.path() + "/lock";
  EXPECT_FALSE(is_locked(path));
  {
    const auto held = PidFile::acquire(path, kAtOnce);
    EXPECT_TRUE(is_locked(path));
  }
  EXPECT_FALSE(is_locked(path));
}

}  // namespace
}  // namespace orch::cli
