#include "common/testing/fuzz_replay.h"

#include <gtest/gtest.h>

#include "common/base/check.h"
#include "common/testing/temp_folder.h"

namespace orch::testing {
namespace {

void target(const std::uint8_t* data, std::size_t size) { ORCH_CHECK(std::string(data, data + size) != "broken"); }

void write(const std::filesystem::path& folder, const char* name, const char* text) {
  std::ofstream(folder / name, std::ios::binary) << text;
}

TEST(FuzzReplay, every_file_is_run_and_one_that_breaks_a_property_ends_the_process) {
  const TempFolder folder;
  const std::filesystem::path path = folder.path();
  write(path, "a", "fine");
  write(path, "b", "");
  std::vector<std::size_t> sizes;
  EXPECT_EQ(replay_corpus([&](const std::uint8_t*, std::size_t size) { sizes.push_back(size); }, path), 2u);
  EXPECT_EQ(sizes, (std::vector<std::size_t>{4, 0}));
  EXPECT_EQ(replay_corpus(target, path), 2u);
  write(path, "c", "broken");
  EXPECT_DEATH(replay_corpus(target, path), "CHECK failed");
}

TEST(FuzzReplay, a_folder_without_files_is_no_corpus) {
  const TempFolder folder;
  EXPECT_EQ(replay_corpus(target, folder.path()), 0u);
  EXPECT_EQ(replay_corpus(target, std::filesystem::path(folder.path()) / "absent"), 0u);
}

TEST(FuzzReplay, generated_inputs_are_run_too) {
  int runs = 0;
  const auto count = [&](const std::uint8_t*, std::size_t) { ++runs; };
  replay_generated(count, [](Prng& prng) { return std::to_string(prng.next()); }, 70);
  EXPECT_EQ(runs, 70);
  EXPECT_DEATH(replay_generated(target, [](Prng&) { return std::string("broken"); }, 1), "CHECK failed");
}

}  // namespace
}  // namespace orch::testing
