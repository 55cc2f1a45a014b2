// What holders are told of the replicas' KV memory, and how often (OC-POOL-3055).
#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

struct Paged : World {
  Paged() : World(one_replica()) {
    script.kv_page_tokens = 32;
    start();
    worker().kv_pages_total = 100;
    attach(1, orch_at(1));
    report_used(0);
    run(Duration::milliseconds(200));
    expect_state(ReplicaState::ready);
  }
  void report_used(std::uint64_t pages) {
    worker().kv_pages_used = pages;
    step(report_of(inc()));
  }
  void report_saturated(std::uint64_t values) {
    WorkerReport report = report_of(inc());
    report.kv_saturated_total = values;
    step(report);
  }
  std::size_t words() const { return sent<ReplicaLoaded>().size(); }
};

TEST(MemoryReports, OC_POOL_3055_size_and_use_are_in_the_view_and_the_size_outlives_a_life) {
  Paged world;
  world.report_used(40);
  EXPECT_EQ(world.view().kv, (KvMemory{.page_tokens = 32, .pages_total = 100, .pages_used = 40}));
  world.die(world.inc(), 9);
  EXPECT_EQ(world.view().kv, (KvMemory{.page_tokens = 32, .pages_total = 100, .pages_used = 40})) << "as it was";
  world.script.reports = false;
  world.run(Duration::seconds(2));
  EXPECT_EQ(world.view().kv, (KvMemory{.page_tokens = 32, .pages_total = 100, .pages_used = 0}))
      << "a new life, which has told nothing yet";
}

TEST(MemoryReports, OC_NUM_1305_values_that_saturate_are_summed_over_the_lives_of_a_replica) {
  Paged world;
  world.report_saturated(4);
  world.report_saturated(7);
  EXPECT_EQ(world.view().kv_saturated_total, 7u);
  world.die(world.inc(), 9);
  EXPECT_EQ(world.view().kv_saturated_total, 7u);
  world.run(Duration::seconds(2));
  EXPECT_EQ(world.view().kv_saturated_total, 7u) << "the new life has counted none";
  world.report_saturated(2);
  EXPECT_EQ(world.view().kv_saturated_total, 9u);
}

TEST(MemoryReports, OC_POOL_3055_a_new_size_is_told_with_the_replica) {
  Paged world;
  const std::size_t before = world.sent<ReplicaChanged>().size();
  world.report_used(40);
  EXPECT_EQ(world.sent<ReplicaChanged>().size(), before) << "what is in use changes too often for that";
  world.worker().kv_pages_total = 90;
  world.report_used(40);
  EXPECT_EQ(world.last<ReplicaChanged>().replica.kv.pages_total, 90u);
}

TEST(MemoryReports, OC_POOL_3055_every_report_is_told_of_and_many_as_one) {
  Paged world;
  const std::size_t before = world.words();
  world.report_used(10);
  EXPECT_EQ(world.words(), before + 1);
  EXPECT_EQ(world.last<ReplicaLoaded>().kv_pages_used, 10u);
  EXPECT_EQ(world.last<ReplicaLoaded>().inc, world.inc());
  for (std::uint64_t used = 11; used <= 20; ++used) world.report_used(used);
  EXPECT_EQ(world.words(), before + 1) << "within 50 ms";
  world.run(Duration::milliseconds(50));
  EXPECT_EQ(world.words(), before + 2);
  EXPECT_EQ(world.last<ReplicaLoaded>().kv_pages_used, 20u);
  world.run(Duration::milliseconds(100));
  EXPECT_EQ(world.words(), before + 2) << "nothing has been reported since";
  world.report_used(20);
  EXPECT_EQ(world.words(), before + 3) << "the same again is news: what was sent before is in it";
}

TEST(MemoryReports, OC_POOL_3055_an_engine_without_pages_is_told_nothing_of) {
  World world(one_replica());
  world.start();
  world.attach(1, orch_at(1));
  world.run(Duration::seconds(10));
  world.expect_state(ReplicaState::ready);
  EXPECT_TRUE(world.sent<ReplicaLoaded>().empty());
  EXPECT_FALSE(world.view().kv.told());
}

}  // namespace
}  // namespace orch::pool
