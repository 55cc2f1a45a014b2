#include "common/runtime/process_start.h"

#include <gtest/gtest.h>

#include <limits>

namespace orch::runtime {
namespace {

TEST(ProcessStart, OC_PLAT_1002_connections_leave_256_files_or_half_of_them) {
  EXPECT_EQ(files_for_connections(1024), 768U);
  EXPECT_EQ(files_for_connections(512), 256U);
  EXPECT_EQ(files_for_connections(400), 200U);
  EXPECT_EQ(files_for_connections(1), 1U);
  EXPECT_EQ(files_for_connections(std::numeric_limits<std::uint64_t>::max()),
            std::numeric_limits<std::uint64_t>::max() - 256);
}

}  // namespace
}  // namespace orch::runtime
