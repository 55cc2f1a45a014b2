// How the last process of a replica ended, whatever befalls the replica afterwards (OC-POOL-3058): M6 is judged by it.
#include <gmock/gmock.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const ModelFile kNew{.path = "/new", .digest = "sha256:11"};

// One replica, and a reload of it whose successor will never have the digest that was asked for.
struct Reloaded : World {
  Reloaded() : World(replicas(1)) {
    step(Tick{});
    scripts["p-0b"].digest = "sha256:22";
    scripts["p-0b"].loads = false;
    first = inc_of("p-0");
    reload = start(OperationKind::reload, Duration::seconds(60), kNew);
  }
  // The reload comes to nothing, and p-0 stays.
  void fails() {
    scripts["p-0b"].loads = true;
    run(Duration::milliseconds(600));
    ASSERT_EQ(operation(reload).state, OperationState::failed);
  }
  std::optional<ProcessEnd> end() { return view_of("p-0").last_end; }

  Incarnation first;
  Operation reload;
};

TEST(ProcessEnd, OC_POOL_3058_a_reload_that_comes_to_nothing_hides_no_death) {
  Reloaded world;
  EXPECT_FALSE(world.end().has_value()) << "none has ended";
  world.scripts["p-0"].loads = false;  // the next one
  world.die(world.first, 11);
  world.fails();
  const ReplicaView stays = world.view_of("p-0");
  EXPECT_NE(stays.state, ReplicaState::ready);
  EXPECT_EQ(stays.last_end, (ProcessEnd{world.first, FailureClass::killed_by_signal}));
  EXPECT_EQ(to_string(stays.last_failure), "killed_by_signal") << "that is why it is not ready";
  EXPECT_THAT(stays.last_error, AllOf(HasSubstr("killed by signal 11"), HasSubstr("reload: p-0b: digest")));
  for (const ReplicaChanged& told : world.sent<ReplicaChanged>()) {
    if (told.replica.replica_id == "p-0" && told.replica.pid == 0 && told.replica.was_ready)
      EXPECT_EQ(told.replica.last_end, stays.last_end) << "from the first word on";
  }
}

TEST(ProcessEnd, OC_POOL_3058_a_failed_reload_makes_no_failure_of_an_end_that_was_wanted) {
  Reloaded world;
  world.fails();
  EXPECT_EQ(to_string(world.view_of("p-0").last_failure), "not_replaced");
  EXPECT_FALSE(world.end().has_value());
  world.start(OperationKind::drain, Duration::seconds(1));
  world.run(Duration::seconds(5));
  ASSERT_EQ(world.view_of("p-0").state, ReplicaState::stopped);
  EXPECT_EQ(world.end(), (ProcessEnd{world.first, FailureClass::none}));
}

TEST(ProcessEnd, OC_POOL_3058_the_next_life_takes_the_word_back_only_by_its_own_end) {
  World world(one_replica());
  world.start();
  const Incarnation first = world.inc();
  world.die(first, 0, 69);
  world.run(Duration::seconds(10));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.view().last_error, "");
  EXPECT_EQ(world.view().last_end, (ProcessEnd{first, FailureClass::device_lost}));
  const Incarnation second = world.inc();
  world.script.reports = false;
  world.script.spawns = false;  // what never began has no end
  world.run(Duration::seconds(30));
  EXPECT_EQ(to_string(world.view().last_failure), "spawn_failed");
  EXPECT_EQ(world.view().last_end, (ProcessEnd{second, FailureClass::silent})) << "killed, for a reason";
}

}  // namespace
}  // namespace orch::pool
