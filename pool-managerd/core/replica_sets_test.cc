// Replicas of one pool are never of two sets at once (OC-POOL-3046).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

using ::testing::HasSubstr;

TEST(ReplicaSets, OC_POOL_3046_another_version_is_not_mixed_into_a_set_that_serves) {
  World world(replicas(2));
  world.step(Tick{});
  world.script.engine_version = "2";  // the program was replaced on disk
  world.die(world.inc_of("p-1"), 9);
  world.run(Duration::seconds(10));
  EXPECT_NE(world.view_of("p-1").state, ReplicaState::ready);
  EXPECT_THAT(world.view_of("p-1").last_error, HasSubstr("engine_version is '2', the other replicas' is '1'"));
  EXPECT_EQ(to_string(world.view_of("p-1").last_failure), "set_mismatch");
  EXPECT_EQ(world.view_of("p-0").state, ReplicaState::ready);
  const Operation restart = world.start(OperationKind::restart, Duration::seconds(1));
  world.run(Duration::seconds(10));
  EXPECT_EQ(to_string(world.operation(restart).state), "succeeded") << "the way out";
  for (const ReplicaView& view : world.manager.replicas(world.now)) EXPECT_EQ(view.facts.engine_version, "2");
}

TEST(ReplicaSets, OC_POOL_3046_the_last_to_fall_frees_the_set) {
  World world(replicas(2));
  world.step(Tick{});
  world.script.numeric_class = "D";
  world.die(world.inc_of("p-1"), 9);
  world.die(world.inc_of("p-0"), 9);
  world.run(Duration::seconds(5));
  for (const ReplicaView& view : world.manager.replicas(world.now)) EXPECT_EQ(view.state, ReplicaState::ready);
}

TEST(ReplicaSets, OC_POOL_3046_two_that_load_at_once_do_not_mix) {
  World world(replicas(2));
  world.scripts["p-1"].engine_version = "2";
  world.step(Tick{});
  world.run(Duration::milliseconds(100));
  std::size_t ready = 0;
  for (const ReplicaView& view : world.manager.replicas(world.now)) ready += view.state == ReplicaState::ready;
  EXPECT_EQ(ready, 1u);
}

}  // namespace
}  // namespace orch::pool
