// What a worker is started with, from a configuration's text.
#include "pool-managerd/shell/worker_command.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "pool-managerd/shell/known_workers.h"

namespace orch::pool {
namespace {

// The command of the pool's first replica; of a bad configuration its error.
std::vector<std::string> command_of(const std::string& pools, const std::string& pool_id) {
  const auto config = load_config("state_dir: s\npools: [" + pools + "]\n");
  if (!config.ok()) return {config.error().text()};
  const WorkerCommands commands(*config, "/bin", "/s");
  const Settings settings = settings_from(*config, ManagerId{}, 1);
  const auto spec = std::find_if(settings.replicas.begin(), settings.replicas.end(),
                                 [&](const ReplicaSpec& each) { return each.pool_id == pool_id; });
  return commands.arguments({.replica_id = spec->replica_id,
                             .inc = {.boot = 1, .counter = 1},
                             .pool_id = pool_id,
                             .model = {},
                             .memory_sharers = spec->memory_sharers});
}

// The value behind the flag; "-": the flag is not there.
std::string flag_of(const std::string& pools, const std::string& pool_id, const std::string& flag) {
  const std::vector<std::string> arguments = command_of(pools, pool_id);
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

// A manager that starts again ends each worker whose command is another one.
TEST(WorkerCommand, OC_POOL_3065_another_pool_makes_no_other_command_of_a_running_worker) {
  const std::string beside = std::string(kTwo) + ", {id: b, engine: native, model: {name: n, path: g}}";
  ASSERT_NE(flag_of(kTwo, "a", "--memory-sharers"), flag_of(beside, "a", "--memory-sharers"));
  EXPECT_EQ(command_digest(command_of(kTwo, "a")), command_digest(command_of(beside, "a")));
  for (const char* other : {"threads: 3", "ctx: 512", "slots: 2", "memory_max_bytes: 68719476736"}) {
    const std::string changed =
        std::string("{id: a, engine: native, model: {name: m, path: f}, replicas: 2, ") + other + "}";
    EXPECT_NE(command_digest(command_of(kTwo, "a")), command_digest(command_of(changed, "a"))) << other;
  }
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
