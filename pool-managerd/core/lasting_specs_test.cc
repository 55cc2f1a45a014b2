// What is written down of rollouts that have not ended (OC-POOL-3054).
#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

using enum OperationKind;

const ModelFile new_file{.path = "/new", .digest = "sha256:11"};

// A worker that serves the new file.
Script with_new_model() {
  Script script;
  script.digest = new_file.digest;
  return script;
}

std::string state_of(World& world, const Operation& operation) {
  return std::string(to_string(world.operation(operation).state));
}

// What the next start is to begin with, by place.
std::string lasting(const World& world) {
  std::string text;
  for (const ReplicaSpec& spec : world.manager.lasting_specs()) text += spec.replica_id + spec.model_path + " ";
  return text;
}

TEST(LastingSpecs, OC_POOL_3054_what_is_under_way_in_one_pool_is_not_written_down_with_the_end_in_another) {
  Settings settings = replicas(2);
  ReplicaSpec other = settings.replicas[0];
  other.replica_id = "q-0";
  other.place = "q-0";
  other.pool_id = "q";
  settings.replicas.push_back(other);
  World world(std::move(settings));
  world.start();
  world.scripts["p-0b"] = world.scripts["p-1b"] = with_new_model();
  world.scripts["p-1b"].loads = false;
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(1), new_file);
  world.run(Duration::seconds(4));
  ASSERT_EQ(world.view_of("p-0b").state, ReplicaState::ready) << "the first of two has been replaced";
  world.step(StartOperation{.request = {9}, .kind = drain, .pool_id = "q", .replica_id = {}, .deadline = {}});
  world.run(Duration::seconds(1));
  ASSERT_EQ(world.last<OperationEnded>().operation.pool_id, "q");
  ASSERT_EQ(state_of(world, reload), "running");
  EXPECT_EQ(lasting(world), "p-0/old p-1/old q-0/old ");
  world.scripts["p-1b"].loads = true;
  world.run(Duration::seconds(6));
  ASSERT_EQ(state_of(world, reload), "succeeded");
  EXPECT_EQ(lasting(world), "p-0b/new p-1b/new q-0/old ");
}

TEST(LastingSpecs, OC_POOL_3054_what_a_shutdown_cuts_short_is_not_written_down) {
  World world(replicas(2));
  world.start();
  world.scripts["p-0b"] = world.scripts["p-1b"] = with_new_model();
  world.scripts["p-1b"].loads = false;
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(1), new_file);
  world.run(Duration::seconds(4));
  ASSERT_EQ(world.view_of("p-0b").state, ReplicaState::ready);
  world.step(Shutdown{.deadline = Duration::seconds(1)});
  EXPECT_EQ(state_of(world, reload), "failed");
  EXPECT_EQ(lasting(world), "p-0/old p-1/old ");
  world.run(Duration::seconds(5));
  EXPECT_EQ(world.sent<ShutdownComplete>().size(), 1u);
  EXPECT_EQ(lasting(world), "p-0/old p-1/old ") << "to the last moment";
}

}  // namespace
}  // namespace orch::pool
