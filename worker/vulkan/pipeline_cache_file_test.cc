// The file of compiled pipelines: kept, keyed, checked, bounded; never in the way.
#include "worker/vulkan/pipeline_cache_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "common/testing/temp_folder.h"

namespace orch::worker::vulkan {
namespace {

namespace fs = std::filesystem;

class PipelineCacheFileTest : public ::testing::Test {
 protected:
  static std::vector<std::byte> some_bytes(std::size_t count, int start) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(start + static_cast<int>(i));
    return bytes;
  }

  orch::testing::TempFolder folder;
  const fs::path directory = folder.path();
  PipelineCacheKey key{"device", "driver", "format", "kernels"};
};

TEST_F(PipelineCacheFileTest, OC_DEVICE_1002_what_was_written_is_read_again_by_the_same_key_only) {
  const PipelineCacheFile file(directory / "deeper", key);
  EXPECT_TRUE(file.read().empty());
  const auto bytes = some_bytes(1000, 3);
  ASSERT_TRUE(file.write(bytes));
  EXPECT_EQ(file.read(), bytes);
  for (std::string PipelineCacheKey::* part : {&PipelineCacheKey::device_uuid, &PipelineCacheKey::driver_uuid,
                                               &PipelineCacheKey::cache_uuid, &PipelineCacheKey::kernels}) {
    PipelineCacheKey other = key;
    other.*part += "'";
    EXPECT_TRUE(PipelineCacheFile(directory / "deeper", other).read().empty());
  }
}

TEST_F(PipelineCacheFileTest, OC_DEVICE_1002_a_damaged_cut_or_foreign_writable_file_counts_as_absent) {
  const PipelineCacheFile file(directory, key);
  const auto bytes = some_bytes(1000, 3);
  ASSERT_TRUE(file.write(bytes));
  ASSERT_EQ(::chmod(file.path().c_str(), 0620), 0);
  EXPECT_TRUE(file.read().empty());
  ASSERT_EQ(::chmod(file.path().c_str(), 0600), 0);
  EXPECT_EQ(file.read(), bytes);
  {
    std::fstream damaged(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    damaged.seekp(500);
    damaged.put('x');
  }
  EXPECT_TRUE(file.read().empty());
  ASSERT_TRUE(file.write(bytes));
  fs::resize_file(file.path(), 900);
  EXPECT_TRUE(file.read().empty());
  fs::resize_file(file.path(), 5);
  EXPECT_TRUE(file.read().empty());
  ASSERT_TRUE(file.write(bytes));
  const fs::path elsewhere = directory / "elsewhere";
  fs::rename(file.path(), elsewhere);
  fs::create_symlink(elsewhere, file.path());
  EXPECT_TRUE(file.read().empty()) << "a link is not the file";
}

TEST_F(PipelineCacheFileTest, OC_DEVICE_1002_size_and_number_of_files_are_bounded) {
  const PipelineCacheFile file(directory, key);
  EXPECT_FALSE(file.write(std::vector<std::byte>(kPipelineCacheBytesMax + 1)));
  EXPECT_FALSE(file.write({}));
  for (std::size_t i = 0; i < kPipelineCacheFilesMax + 3; ++i) {
    PipelineCacheKey other = key;
    other.kernels = std::to_string(i);
    const PipelineCacheFile one(directory, other);
    ASSERT_TRUE(one.write(some_bytes(10, static_cast<int>(i))));
    EXPECT_FALSE(one.read().empty());
    fs::last_write_time(one.path(), fs::file_time_type::clock::now() - std::chrono::hours(100 - i));
  }
  const auto count = std::distance(fs::directory_iterator(directory), fs::directory_iterator());
  EXPECT_EQ(count, static_cast<std::ptrdiff_t>(kPipelineCacheFilesMax));
  key.kernels = "0";
  EXPECT_TRUE(PipelineCacheFile(directory, key).read().empty());
}

TEST_F(PipelineCacheFileTest, OC_DEVICE_1002_no_directory_and_an_unusable_one_are_no_failure) {
  EXPECT_TRUE(PipelineCacheFile("", key).read().empty());
  EXPECT_FALSE(PipelineCacheFile("", key).write(some_bytes(10, 1)));
  EXPECT_FALSE(PipelineCacheFile("/proc/nowhere", key).write(some_bytes(10, 1)));
}

TEST(KernelsDigest, OC_DEVICE_1002_every_kernel_counts) {
  const std::string whole = kernels_digest(embedded_kernels());
  EXPECT_EQ(whole.size(), 64U);
  for (std::size_t i = 0; i < kKernels; ++i) {
    KernelSet other = embedded_kernels();
    other.code[i] = other.code[i].first(other.code[i].size() - 1);
    EXPECT_NE(kernels_digest(other), whole) << i;
  }
}

}  // namespace
}  // namespace orch::worker::vulkan
