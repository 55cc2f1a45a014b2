// What readers are told of the core's state.
#include "orchestratord/shell/state_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;
using nlohmann::json;

ReplicaView on_device(const std::string& id, const std::string& accelerator) {
  ReplicaView view = ready_replica(id);
  view.accelerator = accelerator;
  return view;
}

TEST(StateJson, ORCH_2104_a_set_names_the_accelerators_of_all_its_replicas) {
  Bench bench;
  ReplicaView loading = on_device("r4", "");
  loading.state = ReplicaState::preloading;
  bench.manager_up({on_device("r1", "vulkan"), on_device("r2", "cpu"), on_device("r3", "vulkan"), loading});
  const json sets = json::parse(replicasets_json(bench.core));
  ASSERT_EQ(sets.size(), 1u);
  EXPECT_EQ(sets[0]["accelerators"], json({"cpu", "vulkan"}));
  EXPECT_EQ(sets[0]["replicas"], 4);
}

}  // namespace
}  // namespace orch::gateway
