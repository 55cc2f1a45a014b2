// What a native worker says of itself before it has read a model.
#include "worker/shell/native_model.h"

#include <gtest/gtest.h>

#include "worker/core/numerics.h"

namespace orch::worker {
namespace {

// Both are of one release; a replica set (ORCH-3007) tells them apart by this text alone.
TEST(NativeModel, OC_ENGINE_1031_a_workers_version_says_what_its_bytes_follow_from) {
  const std::string numerics = std::to_string(numerics::kContractVersion);
  const std::string tokens = std::to_string(kTokensVersion);
  EXPECT_EQ(initial_info({}).engine_version,
            ORCH_VERSION "+numerics." + numerics + ".tokens." + tokens + ".unicode.15.1.0");
}

}  // namespace
}  // namespace orch::worker
