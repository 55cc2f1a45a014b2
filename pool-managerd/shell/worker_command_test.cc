// What a worker is started with, from a configuration's text.
#include "pool-managerd/shell/worker_command.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace orch::pool {
namespace {

// The value behind the flag in the command of the pool's first replica; "-": the flag is not there.
std::string flag_of(const std::string& pools, const std::string& pool_id, const std::string& flag) {
  const auto config = load_config("state_dir: s\npools: [" + pools + "]\n");
  if (!config.ok()) return config.error().text();
  const WorkerCommands commands(*config, "/bin", "/s");
  const Settings settings = settings_from(*config, ManagerId{}, 1);
  const auto spec = std::find_if(settings.replicas.begin(), settings.replicas.end(),
                                 [&](const ReplicaSpec& each) { return each.pool_id == pool_id; });
  const std::vector<std::string> arguments = commands.arguments({.replica_id = spec->replica_id,
                                                                 .inc = {.boot = 1, .counter = 1},
                                                                 .pool_id = pool_id,
                                                                 .model = {},
                                                                 .memory_sharers = spec->memory_sharers});
  const auto at = std::find(arguments.begin(), arguments.end(), flag);
  return at == arguments.end() ? "-" : *(at + 1);
}

constexpr char kTwo[] = "{id: a, engine: native, model: {name: m, path: f}, replicas: 2}";

TEST(WorkerCommand, OC_POOL_3065_a_pool_without_a_limit_says_how_many_share) {
  EXPECT_EQ(flag_of(kTwo, "a", "--memory-sharers"), "2");
  EXPECT_EQ(flag_of(kTwo, "a", "--memory-max-bytes"), "-");
  const std::string beside = std::string(kTwo) + ", {id: b, engine: native, model: {name: n, path: g}, device: cpu}";
  EXPECT_EQ(flag_of(beside, "a", "--memory-sharers"), "3");
  EXPECT_EQ(flag_of(beside, "b", "--memory-sharers"), "3");
  const std::string mock = std::string(kTwo) + ", {id: b, engine: mock, model: {name: n}}";
  EXPECT_EQ(flag_of(mock, "a", "--memory-sharers"), "2");
  EXPECT_EQ(flag_of(mock, "b", "--memory-sharers"), "-");
}

TEST(WorkerCommand, OC_POOL_3065_a_limit_is_handed_on_in_place_of_a_share) {
  const std::string limited =
      "{id: a, engine: native, model: {name: m, path: f}, replicas: 2, memory_max_bytes: 68719476736}";
  EXPECT_EQ(flag_of(limited, "a", "--memory-max-bytes"), "68719476736");
  EXPECT_EQ(flag_of(limited, "a", "--memory-sharers"), "-");
}

TEST(WorkerCommand, OC_ENGINE_1023_speculation_is_off_unless_the_pool_says_on) {
  const std::string pool = "{id: a, engine: native, model: {name: m, path: f}";
  EXPECT_EQ(flag_of(pool + "}", "a", "--speculation"), "off");
  EXPECT_EQ(flag_of(pool + ", speculation: off}", "a", "--speculation"), "off");
  EXPECT_EQ(flag_of(pool + ", speculation: on}", "a", "--speculation"), "on");
  EXPECT_EQ(flag_of(pool + ", speculation: 'on'}", "a", "--speculation"), "on");
  EXPECT_EQ(flag_of("{id: a, engine: mock, model: {name: m}, speculation: on}", "a", "--speculation"), "-");
}

}  // namespace
}  // namespace orch::pool
