#include "common/runtime/process_start.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>

namespace orch::runtime {
namespace {

TEST(ProcessStart, OC_PLAT_1002_connections_leave_256_files_or_half_of_them) {
  const auto both = [](std::uint64_t limit) {
    const FilesForConnections files = files_for_connections(limit);
    return std::pair(files.http, files.grpc);
  };
  EXPECT_EQ(both(1024), std::pair(576UL, 192UL));
  EXPECT_EQ(both(512), std::pair(192UL, 64UL));
  EXPECT_EQ(both(400), std::pair(150UL, 50UL));
  EXPECT_EQ(both(1), std::pair(1UL, 0UL));
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max() - 256;
  EXPECT_EQ(both(kMost + 256), std::pair(kMost - kMost / 4, kMost / 4));
}

}  // namespace
}  // namespace orch::runtime
