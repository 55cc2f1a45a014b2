#include "cli/log_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "common/testing/temp_folder.h"

namespace orch::cli {
namespace {

struct LogFile : ::testing::Test {
  void put(const std::string& text) const { std::ofstream(path, std::ios::binary) << text; }
  static std::string read(const std::string& file) {
    std::stringstream text;
    text << std::ifstream(file, std::ios::binary).rdbuf();
    return text.str();
  }
  orch::testing::TempFolder folder;
  const std::string path = folder.path() + "/a.log";
};

TEST_F(LogFile, OC_CLI_1007_the_last_line_of_a_large_log_is_found) {
  put(std::string(std::size_t{2} << 20, 'x') + "\nfirst\nthe reason\n\n");
  EXPECT_EQ(last_line(path), "the reason");
  EXPECT_EQ(last_lines(path, 3), "first\nthe reason\n\n");
  put("only");
  EXPECT_EQ(last_line(path), "only");
  EXPECT_EQ(last_line(path + ".absent"), "");
  EXPECT_EQ(last_lines(path + ".absent", 5), "");
}

TEST_F(LogFile, OC_CLI_1007_a_log_at_its_bound_is_left_alone) {
  put("0123456789");
  ASSERT_TRUE(bound_log(path, 10).ok());
  EXPECT_EQ(read(path), "0123456789");
  EXPECT_FALSE(std::filesystem::exists(path + ".1"));
  EXPECT_TRUE(bound_log(path + ".absent", 10).ok());
}

TEST_F(LogFile, OC_CLI_1007_a_log_above_its_bound_starts_again_for_who_has_it_open) {
  const int writer = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  ASSERT_GE(writer, 0);
  ASSERT_EQ(::write(writer, "0123456789ab", 12), 12);
  ASSERT_TRUE(bound_log(path, 10).ok());
  EXPECT_EQ(read(path + ".1"), "23456789ab");
  struct stat info{};
  ASSERT_EQ(::stat((path + ".1").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  ASSERT_EQ(::write(writer, "new", 3), 3);
  ::close(writer);
  EXPECT_EQ(read(path), "new");
}

TEST_F(LogFile, OC_CLI_1007_a_copy_that_cannot_be_written_keeps_the_log_up_to_twice_its_bound) {
  std::filesystem::create_directory(path + ".1");
  put(std::string(20, 'x'));
  EXPECT_FALSE(bound_log(path, 10).ok());
  EXPECT_EQ(read(path).size(), 20U);
  put(std::string(21, 'x'));
  EXPECT_TRUE(bound_log(path, 10).ok());
  EXPECT_EQ(read(path), "");
}

}  // namespace
}  // namespace orch::cli
