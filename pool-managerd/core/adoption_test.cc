// Workers of an earlier boot go on under this one (L8).
#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

// A worker of boot 2 holds a lease of one slot and runs a job under it when boot 3 starts.
struct Adoption : ::testing::Test {
  Adoption() : world(one_replica()) {
    world.workers[kOld] = std::make_unique<FakeWorker>(4, world.manager.settings().manager, kOld);
    LeaseTable table{.version = {.boot = 2, .counter = 40}, .ttl = Duration::seconds(15), .leases = {}};
    table.leases.push_back(
        {.id = kLease, .holder = orch_at(1), .slots = 1, .secret = Secret{7}, .renewal_seq = 3, .stop = false});
    EXPECT_EQ(worker().apply(table, world.now), worker::LeaseArbiter::Applied::ok);
    const Fence fence{.manager = world.manager.settings().manager, .inc = kOld, .lease = kLease, .secret = Secret{7}};
    EXPECT_TRUE(worker().admit(fence, orch_at(1), {.job = JobId{Uuid{1, 1}}, .attempt = 1}, world.now).ok());
  }
  worker::LeaseArbiter& worker() { return world.workers.at(kOld)->arbiter; }
  void find() { world.step(WorkersFound{{{.replica_id = "p-0", .inc = kOld, .pid = 77, .endpoint = "unix:/old"}}}); }
  void show_table() {
    WorkerReport report = world.report_of(kOld);
    report.table = worker().table();
    world.step(report);
  }
  static constexpr Incarnation kOld{.boot = 2, .counter = 5};
  static constexpr LeaseId kLease{.boot = 2, .counter = 9};
  World world;
};

TEST_F(Adoption, L8_a_worker_of_an_earlier_boot_goes_on_with_its_leases) {
  find();
  EXPECT_TRUE(world.last<ConnectWorker>().wants_table);
  EXPECT_TRUE(world.sent<SendTable>().empty()) << "nothing is sent before its table is known";
  world.attach(1, orch_at(1));
  world.holders[1] = orch_at(1);
  world.step(
      HolderUpdate{.link = {1}, .seq = 1, .bids = {{.pool_id = "p", .running = 1}}, .renew = {kLease}, .release = {}});
  EXPECT_TRUE(world.revokes.empty()) << "nobody is told that its lease is gone";
  show_table();
  world.expect_state(ReplicaState::ready);
  EXPECT_TRUE(world.sent<SpawnWorker>().empty());
  EXPECT_TRUE(world.sent<SendSelfCheck>().empty()) << "it was ready before and is busy";
  EXPECT_EQ(world.view().inc, kOld);
  EXPECT_EQ(world.view().running, 1u);
  ASSERT_FALSE(world.sent<SendTable>().empty());
  EXPECT_EQ(world.last<SendTable>().table.version.boot, 3u) << "the version is of the new boot";
  world.step(
      HolderUpdate{.link = {1}, .seq = 2, .bids = {{.pool_id = "p", .running = 1}}, .renew = {kLease}, .release = {}});
  world.report(kOld);
  world.step(Tick{});
  ASSERT_TRUE(world.grants[1].contains(kLease)) << "the same lease";
  EXPECT_EQ(world.grants[1].at(kLease).secret, Secret{7});
  EXPECT_EQ(world.grants[1].at(kLease).update_seq, 2u);
  EXPECT_TRUE(world.dispatch(1, 2).ok()) << "idle credit, granted on the adopted worker";
}

// The update that counts for every lease of its holder came before the lease was known.
TEST_F(Adoption, L8_the_lease_of_a_holder_that_attached_meanwhile_is_renewed) {
  find();
  world.attach(1, orch_at(1));
  world.holders[1] = orch_at(1);
  world.bid(1, {{.pool_id = "p", .running = 1}});
  world.attach(2, orch_at(2));
  world.step(HolderUpdate{.link = {2}, .seq = 1, .bids = {{.pool_id = "p"}}, .renew = {}, .release = {}});
  show_table();
  world.expect_state(ReplicaState::ready);
  world.report(kOld);
  world.step(Tick{});
  ASSERT_TRUE(world.grants[1].contains(kLease));
  EXPECT_EQ(world.grants[1].at(kLease).update_seq, 1u);
  EXPECT_FALSE(world.grants[2].contains(kLease)) << "of another";
}

TEST_F(Adoption, L8_a_worker_that_does_not_show_its_table_is_replaced_after_its_reap) {
  world.script.answers = false;
  world.script.reports = false;
  find();
  world.run(Duration::seconds(5) - Duration{1});
  EXPECT_TRUE(world.sent<SignalWorker>().empty());
  world.run(Duration{1});
  EXPECT_EQ(world.last<SignalWorker>().signal, StopSignal::kill);
  EXPECT_EQ(world.last<NotedFailure>().failure, FailureClass::not_adopted);
  world.script.answers = world.script.reports = true;
  world.run(Duration::seconds(3));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.view().inc.boot, 3u);
}

// Its last manager died behind the word to drain. It would refuse whatever this one grants.
TEST_F(Adoption, L8_a_worker_that_drains_ends_its_jobs_and_is_replaced) {
  worker().begin_drain(world.now + Duration::seconds(4));
  world.ends_stopped_jobs = false;
  find();
  world.attach(1, orch_at(1));
  world.holders[1] = orch_at(1);
  world.bid(1, {{.pool_id = "p", .running = 1}});
  show_table();
  world.expect_state(ReplicaState::draining);
  EXPECT_TRUE(world.sent<SendGrant>().empty());
  world.run(Duration::seconds(2));
  EXPECT_TRUE(world.sent<SignalWorker>().empty()) << "its job has time";
  world.finish(1);
  world.report(kOld);
  world.step(Tick{});
  EXPECT_EQ(world.last<SignalWorker>().signal, StopSignal::terminate);
  world.run(Duration::seconds(3));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.view().inc.boot, 3u);
}

// A lease that was told to stop stands in the table until its last job has ended.
TEST_F(Adoption, L9_leases_that_were_stopped_before_are_not_closed_again) {
  LeaseTable table = worker().table();
  table.version.counter += 1;
  for (const std::uint64_t counter : {8u, 10u}) {
    table.leases.push_back({.id = {.boot = 2, .counter = counter},
                            .holder = orch_at(2),
                            .slots = 0,
                            .secret = Secret{8},
                            .renewal_seq = 1,
                            .stop = true});
  }
  ASSERT_EQ(worker().apply(table, world.now), worker::LeaseArbiter::Applied::ok);
  worker().begin_drain(world.now + Duration::seconds(4));
  world.ends_stopped_jobs = false;
  find();
  show_table();
  world.expect_state(ReplicaState::draining);
  EXPECT_EQ(world.manager.book_of("p-0")->leases().size(), 1u) << "the one with a job";
}

TEST_F(Adoption, L8_leases_run_out_while_the_replica_is_not_ready_again) {
  world.script.loads = false;
  find();
  show_table();
  world.expect_state(ReplicaState::preloading);
  world.run(Duration::seconds(16));
  EXPECT_TRUE(world.manager.book_of("p-0")->leases().empty() ||
              world.manager.book_of("p-0")->expired(world.now).empty());
  EXPECT_GT(world.manager.next_wakeup(), world.now) << "and the manager does not spin";
}

TEST_F(Adoption, L9_a_drain_before_its_table_is_known_waits_for_its_jobs) {
  find();
  world.step(Shutdown{.deadline = Duration::seconds(4)});
  EXPECT_TRUE(world.sent<SignalWorker>().empty()) << "what it runs is not known yet";
  show_table();
  EXPECT_TRUE(world.sent<SignalWorker>().empty());
  world.run(Duration::seconds(2));
  EXPECT_TRUE(world.sent<SignalWorker>().empty()) << "its job has time";
  world.finish(1);
  world.report(kOld);
  world.step(Tick{});
  EXPECT_EQ(world.sent<SignalWorker>().size(), 1u);
  EXPECT_EQ(world.sent<ShutdownComplete>().size(), 1u);
}

TEST_F(Adoption, L8_another_model_is_replaced_not_given_up) {
  world.script.digest = "sha256:11";
  find();
  EXPECT_EQ(world.view().last_failure, FailureClass::digest_mismatch);
  world.script.digest = kDigest;
  world.run(Duration::seconds(3));
  world.expect_state(ReplicaState::ready);
  EXPECT_EQ(world.view().inc.boot, 3u);
}

}  // namespace
}  // namespace orch::pool
