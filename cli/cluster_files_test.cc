#include "cli/cluster_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "common/testing/temp_folder.h"

namespace orch::cli {
namespace {

TEST(ClusterFiles, quotes_what_yaml_would_misread) { EXPECT_EQ(yaml_quoted("a\"b\\c\n"), "\"a\\\"b\\\\c\\x0a\""); }

TEST(ClusterFiles, writes_private_directories_and_both_configurations) {
  const orch::testing::TempFolder folder;
  const ClusterFiles files(folder.path() + "/state");
  ClusterOptions options;
  options.model_name = "tiny";
  options.model_path = "/models/tiny.gguf";
  ASSERT_TRUE(write_cluster_files(options, files).ok());
  struct stat info{};
  ASSERT_EQ(::stat(files.state_dir.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0700U);
  EXPECT_NE(read_small_file(files.pool_managerd_config).value().find("path: \"/models/tiny.gguf\""), std::string::npos);
  EXPECT_NE(read_small_file(files.orchestratord_config).value().find("127.0.0.1:8080"), std::string::npos);
}

TEST(ClusterFiles, a_model_without_a_digest_gets_no_digest_line) {
  const ClusterFiles files("/state");
  ClusterOptions options;
  EXPECT_EQ(pool_managerd_config_text(options, files).find("digest:"), std::string::npos);
  options.model_digest = "sha256:00";
  EXPECT_NE(pool_managerd_config_text(options, files).find("digest: \"sha256:00\""), std::string::npos);
}

TEST(ClusterFiles, an_unwritable_place_is_named) {
  const auto result = write_file_atomically("/proc/none/file", "x");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(std::string(Result<Ok, std::string>(result).error()).find("/proc/none/file"), std::string::npos);
}

}  // namespace
}  // namespace orch::cli
