// What replicas of one host leave each other of its memory.
#include "pool-managerd/core/memory_sharers.h"

#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

constexpr char kUuid[] = "vulkan:6d657361-3232-2e33-2e36-000000000000";
constexpr char kSameUuid[] = "vulkan:6D65736132322e332e36000000000000";
constexpr char kOtherUuid[] = "vulkan:7d657361-3232-2e33-2e36-000000000000";

TEST(MemorySharers, OC_POOL_3065_two_keys_share_unless_they_exclude_it) {
  const struct {
    const char* one;
    const char* other;
    bool shared;
  } pairs[] = {{"cpu", "cpu", true},
               {"cpu", "vulkan", false},
               {"cpu", "vulkan:0", false},
               {"auto", "cpu", true},
               {"auto", "vulkan:3", true},
               {"auto", "auto", true},
               {"vulkan", "vulkan:1", true},
               {"vulkan", "vulkan", true},
               {"vulkan:0", "vulkan:0", true},
               {"vulkan:0", "vulkan:1", false},
               {"vulkan:1", "vulkan:10", false},
               {"vulkan:7", "vulkan:007", true},
               {"vulkan:0", "vulkan:000", true},
               {"vulkan:0", kUuid, true},
               {kUuid, kUuid, true},
               {kUuid, kSameUuid, true},
               {kUuid, kOtherUuid, false},
               {"vulkan", kUuid, true}};
  for (const auto& pair : pairs) {
    EXPECT_EQ(may_share_memory(pair.one, pair.other), pair.shared) << pair.one << " " << pair.other;
    EXPECT_EQ(may_share_memory(pair.other, pair.one), pair.shared) << pair.other << " " << pair.one;
  }
}

ReplicaSpec spec_on(const char* device) {
  ReplicaSpec spec;
  spec.device = device;
  return spec;
}

TEST(MemorySharers, OC_POOL_3065_every_replica_counts_those_that_may_take_from_its_memory) {
  std::vector<ReplicaSpec> specs{spec_on("cpu"),      spec_on("cpu"),      spec_on("vulkan:0"), spec_on("vulkan:1"),
                                 spec_on("vulkan:1"), spec_on("vulkan:1"), spec_on("")};
  count_memory_sharers(specs);
  std::vector<std::uint32_t> counts;
  for (const ReplicaSpec& spec : specs) counts.push_back(spec.memory_sharers);
  EXPECT_EQ(counts, (std::vector<std::uint32_t>{2, 2, 1, 3, 3, 3, 1}));
  specs.push_back(spec_on("auto"));
  count_memory_sharers(specs);
  EXPECT_EQ(specs[0].memory_sharers, 3u);
  EXPECT_EQ(specs[2].memory_sharers, 2u);
  EXPECT_EQ(specs[6].memory_sharers, 1u) << "another engine takes nothing here";
  EXPECT_EQ(specs[7].memory_sharers, 7u);
}

// Of every life, and of what takes its place.
TEST(MemorySharers, OC_POOL_3065_each_spawn_says_the_number) {
  Settings settings = replicas(2);
  for (ReplicaSpec& spec : settings.replicas) spec.device = "auto";
  count_memory_sharers(settings.replicas);
  World world(std::move(settings));
  world.start();
  world.start(OperationKind::restart);
  world.run(Duration::seconds(30));
  const std::vector<SpawnWorker> all = world.sent<SpawnWorker>();
  ASSERT_EQ(all.size(), 4u);
  for (const SpawnWorker& spawned : all) EXPECT_EQ(spawned.memory_sharers, 2u) << spawned.replica_id;
}

}  // namespace
}  // namespace orch::pool
