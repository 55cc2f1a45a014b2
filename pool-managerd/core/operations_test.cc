#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

using ::testing::HasSubstr;
using enum OperationKind;

const ModelFile kNew{.path = "/new", .digest = "sha256:11"};

// A worker that serves the new file.
Script with_new_model() {
  Script script;
  script.digest = kNew.digest;
  return script;
}

// One job runs on replica p-0.
struct Busy : World {
  explicit Busy(int count = 1) : World(replicas(count)) {
    start_all();
    attach(1, orch_at(1));
    holders[1] = orch_at(1);
    bid(1, {{.pool_id = "p", .running = 0, .waiting = 1}});
    EXPECT_TRUE(dispatch_on("p-0", 1).ok());
    report(inc_of("p-0"));
    step(Tick{});
  }
  void start_all() { World::start(); }
  Status<Outcome> dispatch_on(const std::string& replica, std::uint64_t job) {
    for (const auto& [id, grant] : grants[1]) {
      if (grant.replica_id != replica || grant.slots == 0) continue;
      const Fence fence{
          .manager = manager.settings().manager, .inc = grant.inc, .lease = grant.lease, .secret = grant.secret};
      return workers.at(grant.inc)->arbiter.admit(fence, holders.at(1), {.job = JobId{Uuid{1, job}}, .attempt = 1},
                                                  now);
    }
    return Err{Outcome::STALE_LEASE};
  }
};

std::string state_of(World& world, const Operation& operation) {
  return std::string(to_string(world.operation(operation).state));
}

TEST(Operations, OC_POOL_3050_a_drain_ends_when_the_last_job_has) {
  Busy world;
  const Operation drain = world.start(OperationKind::drain, Duration::seconds(60));
  EXPECT_EQ(drain.total, 1u);
  world.run(Duration::seconds(10));
  EXPECT_EQ(state_of(world, drain), "running");
  EXPECT_EQ(world.operation(drain).step, "p-0 drains");
  world.finish(1);
  world.run(Duration::seconds(6));
  EXPECT_EQ(state_of(world, drain), "succeeded");
  EXPECT_EQ(world.operation(drain).jobs_cut, 0u);
  EXPECT_EQ(world.last<OperationEnded>().operation.id, drain.id);
  EXPECT_EQ(world.last<NotedDrain>().reason, DrainReason::request);
  world.run(Duration::seconds(600));
  world.expect_state(ReplicaState::stopped);
}

TEST(Operations, OC_POOL_3050_a_drain_past_its_deadline_says_how_many_jobs_it_cut) {
  Busy world;
  const Operation drain = world.start(OperationKind::drain, Duration::seconds(10));
  world.run(Duration::seconds(12));
  EXPECT_EQ(state_of(world, drain), "succeeded");
  EXPECT_EQ(world.operation(drain).jobs_cut, 1u);
}

TEST(Operations, OC_POOL_3050_what_is_not_there_is_named) {
  World world(replicas(1));
  world.World::step(Tick{});
  world.step(StartOperation{.request = {7}, .kind = drain, .pool_id = "q", .replica_id = {}, .deadline = {}});
  EXPECT_EQ(world.last<OperationReply>().outcome, Outcome::NOT_FOUND);
  EXPECT_EQ(world.last<OperationReply>().field, "pool_id");
  EXPECT_FALSE(world.last<OperationReply>().operation.has_value());
  world.step(StartOperation{.request = {8}, .kind = drain, .pool_id = {}, .replica_id = "p-9", .deadline = {}});
  EXPECT_THAT(world.last<OperationReply>().message, HasSubstr("'p-9'"));
}

TEST(Operations, OC_POOL_3050_what_makes_no_sense_is_refused_by_field) {
  World world(replicas(1));
  world.step(Tick{});
  const auto field = [&](StartOperation operation) {
    world.step(operation);
    EXPECT_EQ(world.last<OperationReply>().outcome, Outcome::INVALID_PARAMS);
    return world.last<OperationReply>().field;
  };
  const Duration second = Duration::seconds(1);
  EXPECT_EQ(field({.request = {1}, .kind = reload, .pool_id = "p", .replica_id = {}, .deadline = second}), "model");
  EXPECT_EQ(field({.request = {2}, .kind = drain, .pool_id = "p", .replica_id = {}, .deadline = second, .model = kNew}),
            "model");
  EXPECT_EQ(field({.request = {3}, .kind = restart, .pool_id = {}, .replica_id = "p-0", .deadline = second}),
            "replica_id");
  World adapter(one_replica());
  adapter.step(Tick{});
  adapter.start(OperationKind::reload, second, kNew);
  EXPECT_THAT(adapter.last<OperationReply>().message, HasSubstr("has its own"));
}

TEST(Operations, OC_POOL_3050_one_replica_of_two_drains_and_the_other_serves) {
  World world(replicas(2));
  world.step(Tick{});
  world.step(StartOperation{
      .request = {1}, .kind = drain, .pool_id = {}, .replica_id = "p-1", .deadline = Duration::seconds(5)});
  world.run(Duration::seconds(1));
  EXPECT_EQ(world.view_of("p-0").state, ReplicaState::ready);
  EXPECT_EQ(world.view_of("p-1").state, ReplicaState::stopped);
  world.step(StartOperation{
      .request = {2}, .kind = undrain, .pool_id = {}, .replica_id = "p-1", .deadline = Duration::seconds(5)});
  world.run(Duration::seconds(1));
  EXPECT_EQ(world.view_of("p-1").state, ReplicaState::ready);
}

TEST(Operations, OC_POOL_3050_a_repeated_drain_is_the_same_with_the_shorter_deadline) {
  Busy world;
  const Operation first = world.start(OperationKind::drain, Duration::seconds(100));
  const Operation again = world.start(OperationKind::drain, Duration::seconds(5));
  EXPECT_EQ(again.id, first.id);
  world.run(Duration::seconds(7));
  EXPECT_EQ(state_of(world, first), "succeeded");
}

TEST(Operations, OC_POOL_3050_what_is_refused_supersedes_nothing) {
  Busy world(2);
  const auto start = [&](OperationKind kind, const std::string& replica) {
    world.step(StartOperation{.request = {1},
                              .kind = kind,
                              .pool_id = replica.empty() ? "p" : "",
                              .replica_id = replica,
                              .deadline = Duration::seconds(60)});
    return world.last<OperationReply>();
  };
  start(drain, "p-0");
  const OperationReply undrained = start(undrain, "p-0");
  EXPECT_TRUE(world.dispatch_on("p-1", 2).ok());
  world.report(world.inc_of("p-1"));
  world.step(Tick{});
  const OperationReply drained = start(drain, "p-1");
  ASSERT_TRUE(undrained.operation && drained.operation);
  ASSERT_EQ(state_of(world, *undrained.operation), "running");
  ASSERT_EQ(state_of(world, *drained.operation), "running");
  const OperationReply whole = start(drain, "");
  EXPECT_EQ(whole.outcome, Outcome::CONFLICT);
  EXPECT_EQ(whole.message, "drain of p-1 is under way");
  EXPECT_EQ(state_of(world, *undrained.operation), "running");
  EXPECT_EQ(state_of(world, *drained.operation), "running");
}

TEST(Operations, OC_POOL_3050_nothing_else_begins_while_a_pool_is_being_replaced) {
  Busy world;
  world.scripts["p-0b"].loads = false;
  const Operation reload = world.start(OperationKind::restart);
  for (const OperationKind kind : {drain, undrain, OperationKind::reload, restart}) {
    const auto model = kind == OperationKind::reload ? std::optional(kNew) : std::nullopt;
    EXPECT_TRUE(world.start(kind, Duration::seconds(1), model).id.is_zero()) << to_string(kind);
    EXPECT_EQ(world.last<OperationReply>().outcome, Outcome::CONFLICT);
    EXPECT_THAT(world.last<OperationReply>().message, HasSubstr("restart of p is under way"));
  }
  EXPECT_EQ(state_of(world, reload), "running");
  world.expect_state(ReplicaState::ready);
}

TEST(Operations, OC_POOL_3051_an_undrain_brings_a_drained_replica_back_as_a_new_life) {
  World world(replicas(1));
  world.step(Tick{});
  const Incarnation before = world.inc();
  world.start(drain, Duration::seconds(1));
  world.run(Duration::seconds(1));
  world.expect_state(ReplicaState::stopped);
  const Operation back = world.start(undrain);
  world.run(Duration::seconds(1));
  EXPECT_EQ(state_of(world, back), "succeeded");
  world.expect_state(ReplicaState::ready);
  EXPECT_GT(world.inc(), before);
}

TEST(Operations, OC_POOL_3051_an_undrain_supersedes_a_drain_and_waits_for_the_old_life_to_end) {
  Busy world;
  const Incarnation before = world.inc();
  const Operation drain = world.start(OperationKind::drain, Duration::seconds(60));
  const Operation back = world.start(undrain);
  EXPECT_EQ(state_of(world, drain), "failed");
  EXPECT_EQ(world.operation(drain).error, "superseded by a undrain");
  world.run(Duration::seconds(5));
  world.expect_state(ReplicaState::draining);
  EXPECT_EQ(world.sent<SpawnWorker>().size(), 1u) << "L6: not beside the life that still runs";
  world.finish(1);
  world.run(Duration::seconds(6));
  EXPECT_EQ(state_of(world, back), "succeeded");
  EXPECT_GT(world.inc(), before);
}

TEST(Operations, OC_POOL_3050_a_deadline_of_an_earlier_drain_cuts_nothing) {
  World world(replicas(1));
  world.step(Tick{});
  world.start(drain, Duration::seconds(1));
  world.run(Duration::seconds(1));
  world.start(drain, Duration::seconds(1));  // of one that is drained
  world.start(undrain);
  world.run(Duration::seconds(2));
  world.attach(1, orch_at(1));
  world.holders[1] = orch_at(1);
  world.bid(1, {{.pool_id = "p", .running = 0, .waiting = 1}});
  ASSERT_TRUE(world.dispatch(1, 1).ok());
  world.report(world.inc());
  world.step(Tick{});
  world.start(drain, Duration::seconds(60));
  world.run(Duration::seconds(20));
  world.expect_state(ReplicaState::draining);
}

TEST(Operations, OC_POOL_3051_an_undrain_that_fails_says_why) {
  World world(replicas(1));
  world.step(Tick{});
  world.start(drain, Duration::seconds(1));
  world.run(Duration::seconds(1));
  world.script.decodes = false;
  const Operation back = world.start(undrain);
  world.run(Duration::seconds(1));
  EXPECT_EQ(state_of(world, back), "failed");
  EXPECT_THAT(world.operation(back).error, HasSubstr("p-0: self-check decode"));
}

TEST(Operations, OC_POOL_3051_an_undrain_closes_the_breaker_and_starts_at_once) {
  World world(replicas(1));
  world.script.decodes = false;
  world.step(Tick{});
  world.run(Duration::seconds(40));
  world.expect_state(ReplicaState::failed);
  EXPECT_EQ(world.view().breaker, BreakerState::open);
  world.script.decodes = true;
  const Operation back = world.start(undrain);
  world.run(Duration::seconds(1));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.view().breaker, BreakerState::closed);
  EXPECT_EQ(state_of(world, back), "succeeded");
}

TEST(Operations, OC_POOL_3051_an_undrain_outlives_the_exit_of_a_worker_that_had_failed_to_load) {
  World world(replicas(1));
  world.script.load_fails = true;
  world.script.obeys_term = false;
  world.step(Tick{});
  world.run(Duration::milliseconds(500));
  world.expect_state(ReplicaState::backoff);
  const Operation back = world.start(undrain);
  EXPECT_EQ(state_of(world, back), "running");
  world.script.load_fails = false;
  world.die(world.inc(), 0, 65);
  world.run(Duration::seconds(2));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(state_of(world, back), "succeeded");
}

TEST(Operations, OC_POOL_3052_the_old_replica_serves_until_its_successor_is_ready) {
  Busy world;
  world.scripts["p-0b"] = with_new_model();
  world.scripts["p-0b"].loads = false;
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(60), kNew);
  world.run(Duration::seconds(20));
  EXPECT_EQ(world.view_of("p-0").state, ReplicaState::ready);
  EXPECT_EQ(world.view_of("p-0b").state, ReplicaState::preloading);
  EXPECT_GT(world.granted(1), 0u);
  world.scripts["p-0b"].loads = true;
  world.run(Duration::seconds(1));
  EXPECT_EQ(world.view_of("p-0b").state, ReplicaState::ready);
  EXPECT_EQ(world.view_of("p-0").state, ReplicaState::draining) << "its job runs on";
  EXPECT_EQ(world.last<NotedDrain>().reason, DrainReason::rollout);
  EXPECT_TRUE(world.dispatch_on("p-0b", 2).ok()) << "the successor serves meanwhile";
  EXPECT_EQ(state_of(world, reload), "running");
  world.finish(1);
  world.run(Duration::seconds(6));
  EXPECT_EQ(state_of(world, reload), "succeeded");
  ASSERT_EQ(world.manager.specs().size(), 1u);
  EXPECT_EQ(world.manager.specs()[0].model_path, "/new");
  EXPECT_EQ(world.manager.specs()[0].generation, 1u);
  EXPECT_EQ(world.last<ReplicaGone>().replica_id, "p-0");
  world.run(Duration::seconds(60));
  EXPECT_EQ(world.view().replica_id, "p-0b");
  world.expect_state(ReplicaState::ready);
}

TEST(Operations, OC_MIGR_M6_a_replica_that_is_replaced_says_last_how_its_process_ended) {
  Busy world;
  world.scripts["p-0b"] = with_new_model();
  world.start(OperationKind::reload, Duration::seconds(60), kNew);
  world.run(Duration::seconds(3));
  ASSERT_EQ(world.view_of("p-0").state, ReplicaState::draining);
  world.log.clear();
  world.die(world.inc_of("p-0"), 11);
  std::vector<std::string> told;
  for (const Effect& effect : world.log) {
    const auto* changed = std::get_if<ReplicaChanged>(&effect);
    if (changed != nullptr && changed->replica.replica_id == "p-0")
      told.push_back("p-0 " + std::string(to_string(changed->replica.last_end.value().failure)));
    if (const auto* gone = std::get_if<ReplicaGone>(&effect)) told.push_back("gone " + gone->replica_id);
  }
  EXPECT_EQ(told, (std::vector<std::string>{"p-0 killed_by_signal", "gone p-0"}));
}

TEST(Operations, OC_POOL_3053_a_successor_with_another_digest_is_removed_and_the_old_one_stays) {
  Busy world;
  world.scripts["p-0b"].digest = "sha256:22";
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(60), kNew);
  world.run(Duration::seconds(6));
  EXPECT_EQ(state_of(world, reload), "failed");
  EXPECT_THAT(world.operation(reload).error, HasSubstr("p-0b: digest: the model is sha256:22"));
  ASSERT_EQ(world.manager.specs().size(), 1u);
  const ReplicaView old = world.view();
  EXPECT_EQ(old.replica_id, "p-0");
  EXPECT_EQ(old.state, ReplicaState::ready);
  EXPECT_EQ(old.running, 1u) << "its job was never touched";
  EXPECT_THAT(old.last_error, HasSubstr("reload: p-0b: digest"));
  EXPECT_EQ(to_string(old.last_failure), "not_replaced");
  EXPECT_EQ(world.inc_of("p-0b"), Incarnation{}) << "and its process is gone";
}

TEST(Operations, OC_POOL_3053_what_was_replaced_before_is_replaced_back) {
  World world(replicas(2));
  world.step(Tick{});
  world.scripts["p-0b"] = with_new_model();
  world.scripts["p-1b"] = with_new_model();
  world.scripts["p-1b"].decodes = false;
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(5), kNew);
  world.run(Duration::seconds(30));
  EXPECT_EQ(state_of(world, reload), "failed");
  const std::vector<ReplicaSpec> specs = world.manager.specs();
  ASSERT_EQ(specs.size(), 2u);
  for (const ReplicaSpec& spec : specs) {
    EXPECT_EQ(spec.model_path, "/old") << spec.replica_id;
    EXPECT_EQ(world.view_of(spec.replica_id).state, ReplicaState::ready) << spec.replica_id;
  }
  EXPECT_EQ(specs[0].replica_id, "p-0");
  EXPECT_EQ(specs[0].generation, 2u) << "there and back";
  EXPECT_EQ(specs[1].generation, 0u) << "never touched";
}

TEST(Operations, OC_POOL_3052_a_rolling_restart_replaces_one_after_another) {
  World world(replicas(3));
  world.step(Tick{});
  std::size_t least = 3;
  const Operation restart = world.start(OperationKind::restart, Duration::seconds(5));
  for (int i = 0; i < 200 && state_of(world, restart) == "running"; ++i) {
    world.run(Duration::milliseconds(50));
    std::size_t serving = 0;
    for (const ReplicaView& view : world.manager.replicas(world.now)) serving += view.state == ReplicaState::ready;
    least = std::min(least, serving);
  }
  EXPECT_EQ(state_of(world, restart), "succeeded");
  EXPECT_EQ(world.operation(restart).done, 3u);
  EXPECT_EQ(least, 3u) << "never one less than before";
  for (const ReplicaSpec& spec : world.manager.specs()) EXPECT_EQ(spec.generation, 1u);
}

TEST(Operations, OC_POOL_3052_a_reload_to_what_is_served_changes_nothing) {
  World world(replicas(1));
  world.step(Tick{});
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(5), ModelFile{"/old", kDigest});
  EXPECT_EQ(state_of(world, reload), "succeeded");
  EXPECT_EQ(world.sent<SpawnWorker>().size(), 1u);
}

// --- a reload of what is drained (OC-POOL-3056) ---

// Successors serve the new file unless a test says otherwise.
struct Drained : World {
  explicit Drained(int count) : World(replicas(count)) {
    step(Tick{});
    start(drain, Duration::seconds(1));
    run(Duration::seconds(2));
    EXPECT_TRUE(workers.empty());
    scripts["p-0b"] = scripts["p-1b"] = with_new_model();
  }
  std::size_t spawned(const std::string& replica_id) const {
    const auto all = sent<SpawnWorker>();
    return static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [&](const auto& each) { return each.replica_id == replica_id; }));
  }
};

TEST(Operations, OC_POOL_3056_a_reload_of_a_drained_pool_loads_the_new_set_and_nothing_of_the_old) {
  Drained world(2);
  world.scripts["p-0b"].loads = false;
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(5), kNew);
  world.run(Duration::seconds(1));
  EXPECT_EQ(world.workers.size(), 1u) << "one after another, and nothing beside it";
  world.scripts["p-0b"].loads = true;
  world.run(Duration::seconds(10));
  EXPECT_EQ(state_of(world, reload), "succeeded") << world.operation(reload).error;
  EXPECT_EQ(world.operation(reload).done, 2u);
  ASSERT_EQ(world.manager.specs().size(), 2u);
  for (const ReplicaSpec& spec : world.manager.specs()) {
    EXPECT_EQ(spec.model_path, "/new");
    EXPECT_EQ(world.view_of(spec.replica_id).state, ReplicaState::ready) << spec.replica_id;
  }
  EXPECT_EQ(world.spawned("p-0") + world.spawned("p-1"), 2u) << "before the drain, never again";
}

TEST(Operations, OC_POOL_3056_a_reload_that_fails_leaves_the_old_set_drained) {
  Drained world(2);
  world.scripts["p-1b"].decodes = false;
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(5), kNew);
  world.run(Duration::seconds(30));
  EXPECT_EQ(state_of(world, reload), "failed");
  EXPECT_THAT(world.operation(reload).error, HasSubstr("p-1b: self-check decode"));
  EXPECT_TRUE(world.workers.empty()) << "nothing runs, as before";
  ASSERT_EQ(world.manager.specs().size(), 2u);
  for (const ReplicaSpec& spec : world.manager.specs()) {
    EXPECT_EQ(spec.model_path, "/old");
    EXPECT_EQ(world.view_of(spec.replica_id).state, ReplicaState::stopped) << spec.replica_id;
  }
  EXPECT_THAT(world.view_of("p-1").last_error, HasSubstr("reload: p-1b: self-check decode"));
  const Operation back = world.start(undrain);
  world.run(Duration::seconds(2));
  EXPECT_EQ(state_of(world, back), "succeeded") << world.operation(back).error;
  EXPECT_EQ(world.view_of("p-0").state, ReplicaState::ready);
}

TEST(Operations, OC_POOL_3056_the_first_failure_leaves_all_as_it_was) {
  Drained world(1);
  world.scripts["p-0b"].digest = "sha256:22";
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(5), kNew);
  world.run(Duration::seconds(10));
  EXPECT_EQ(state_of(world, reload), "failed");
  EXPECT_TRUE(world.workers.empty());
  EXPECT_EQ(world.view().replica_id, "p-0");
  EXPECT_EQ(world.view().state, ReplicaState::stopped);
  EXPECT_EQ(world.spawned("p-0"), 1u);
}

TEST(Operations, OC_POOL_3056_a_reload_to_the_same_model_brings_a_drained_pool_back) {
  Drained world(1);
  world.scripts.clear();  // the file is as it was
  const Operation reload = world.start(OperationKind::reload, Duration::seconds(5), ModelFile{"/old", kDigest});
  world.run(Duration::seconds(3));
  EXPECT_EQ(state_of(world, reload), "succeeded");
  world.expect_state(ReplicaState::ready);
}

TEST(Operations, OC_POOL_3056_half_a_pool_or_one_that_still_drains_is_not_reloaded) {
  World half(replicas(2));
  half.step(Tick{});
  half.step(StartOperation{
      .request = {1}, .kind = drain, .pool_id = {}, .replica_id = "p-1", .deadline = Duration::seconds(1)});
  half.run(Duration::seconds(2));
  half.start(OperationKind::reload, Duration::seconds(1), kNew);
  EXPECT_EQ(half.last<OperationReply>().outcome, Outcome::CONFLICT);
  EXPECT_THAT(half.last<OperationReply>().message, HasSubstr("p-1 is drained and others are not"));
  half.start(restart);
  EXPECT_THAT(half.last<OperationReply>().message, HasSubstr("p-1 is drained: an undrain starts it"));
  Busy busy;
  busy.start(drain, Duration::seconds(50));
  busy.start(OperationKind::reload, Duration::seconds(1), kNew);
  EXPECT_EQ(busy.last<OperationReply>().outcome, Outcome::CONFLICT);
}

TEST(Operations, OC_POOL_3050_a_shutdown_ends_what_is_under_way) {
  World world(replicas(1));
  world.step(Tick{});
  world.scripts["p-0b"].loads = false;
  const Operation restart = world.start(OperationKind::restart);
  world.run(Duration::seconds(1));
  world.step(Shutdown{.deadline = Duration::seconds(1)});
  EXPECT_EQ(state_of(world, restart), "failed");
  world.run(Duration::seconds(10));
  EXPECT_TRUE(world.manager.is_shut_down());
  EXPECT_TRUE(world.workers.empty());
}

TEST(Operations, OC_POOL_3050_the_list_is_bounded) {
  World world(replicas(1));
  world.step(Tick{});
  for (int i = 0; i < 100; ++i) world.start(OperationKind::reload, {}, ModelFile{"/old", kDigest});
  EXPECT_EQ(world.manager.operations().size(), world.manager.settings().limits.operations_kept);
  EXPECT_EQ(world.manager.operations().back().id.counter, 100u);
}

}  // namespace
}  // namespace orch::pool
