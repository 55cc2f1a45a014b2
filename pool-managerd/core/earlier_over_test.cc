// L7: when an orchestrator that began anew is told that nothing of its earlier boots is left on a process.
#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

std::vector<Bid> wants(std::uint32_t running, std::uint32_t waiting) {
  return {{.pool_id = "p", .running = running, .waiting = waiting}};
}

// Boot 1 of the orchestrator runs a job under a lease of the first replica, then boot 2 attaches as link 3.
struct EarlierOver : ::testing::Test {
  EarlierOver() : world(replicas(2)) {
    world.start();
    world.run(Duration::seconds(1));
    world.attach(1, orch_at(1));
    world.holders[1] = orch_at(1);
    world.bid(1, wants(0, 8));
    EXPECT_TRUE(world.dispatch(1, 1).ok());
    for (const auto& [inc, fake] : world.workers) {
      if (fake->arbiter.running() > 0) busy = inc;
      world.report(inc);
    }
    world.step(Tick{});
    world.standing.clear();
    world.log.clear();
  }
  void attach_anew(std::uint64_t link = 3) {
    world.attach(link, orch_at(1, 2));
    world.holders[link] = orch_at(1, 2);
  }
  // Processes of which that link was told, each as often as it was.
  std::vector<Incarnation> told(std::uint64_t link = 3) const {
    std::vector<Incarnation> out;
    for (const SendEarlierOver& each : world.sent<SendEarlierOver>()) {
      if (each.link == LinkId{link}) out.push_back(each.inc);
    }
    return out;
  }
  bool told_of(Incarnation inc, std::uint64_t link = 3) const {
    const auto all = told(link);
    return std::find(all.begin(), all.end(), inc) != all.end();
  }
  World world;
  Incarnation busy;
};

TEST_F(EarlierOver, OC_LEASE_L7_the_word_comes_when_the_last_job_of_the_earlier_boot_has_ended) {
  world.ends_stopped_jobs = false;
  attach_anew();
  EXPECT_EQ(told().size(), 1u) << "the other process ran nothing";
  EXPECT_FALSE(told_of(busy)) << "its worker has not stopped the job yet";
  world.finish(1);
  world.report(busy);
  world.step(Tick{});
  world.step(Tick{});
  EXPECT_TRUE(told_of(busy));
  world.run(Duration::seconds(10));
  EXPECT_EQ(told().size(), 2u) << "once a process";
}

TEST_F(EarlierOver, OC_LEASE_L7_the_word_waits_for_a_table_without_the_leases) {
  world.hold_tables = true;
  attach_anew();
  world.finish(1);
  world.report(busy);
  world.step(Tick{});
  EXPECT_FALSE(told_of(busy)) << "the worker would still admit what is on its way";
  world.hold_tables = false;
  world.release_tables();
  world.run(Duration::seconds(1));
  EXPECT_TRUE(told_of(busy));
}

TEST_F(EarlierOver, OC_LEASE_L7_each_link_and_each_later_process_has_its_word) {
  attach_anew();
  world.run(Duration::seconds(1));
  EXPECT_EQ(told().size(), 2u);
  attach_anew(4);
  EXPECT_EQ(told(4).size(), 2u);
  world.die(busy, 9);
  world.run(Duration::seconds(5));
  EXPECT_EQ(told(4).size(), 3u) << "the process in its place";
  EXPECT_EQ(told().size(), 2u) << "that link is gone";
}

TEST_F(EarlierOver, OC_LEASE_L7_jobs_of_an_earlier_boot_stop_on_a_draining_replica_too) {
  world.start(OperationKind::drain, Duration::seconds(60));
  world.log.clear();
  attach_anew();
  world.step(Tick{});
  EXPECT_EQ(world.workers.contains(busy) ? world.workers.at(busy)->arbiter.running() : 0, 0u)
      << "nobody reads what it computes";
}

// A worker of an earlier boot of the manager, found by this one, with a job of boot 1 of the orchestrator.
struct Found : ::testing::Test {
  Found() : world(one_replica()) {
    world.ends_stopped_jobs = false;
    world.workers[kOld] = std::make_unique<FakeWorker>(4, world.manager.settings().manager, kOld);
    apply(40, 1);
    const Fence fence{.manager = world.manager.settings().manager, .inc = kOld, .lease = kLease, .secret = Secret{7}};
    EXPECT_TRUE(worker().admit(fence, orch_at(1), {.job = JobId{Uuid{1, 1}}, .attempt = 1}, world.now).ok());
  }
  worker::LeaseArbiter& worker() { return world.workers.at(kOld)->arbiter; }
  void apply(std::uint64_t version, std::size_t leases) {
    LeaseTable table{.version = {.boot = 2, .counter = version}, .ttl = Duration::seconds(15), .leases = {}};
    if (leases > 0) {
      table.leases.push_back(
          {.id = kLease, .holder = orch_at(1), .slots = 1, .secret = Secret{7}, .renewal_seq = 3, .stop = false});
    }
    EXPECT_EQ(worker().apply(table, world.now), worker::LeaseArbiter::Applied::ok);
  }
  void find_and_attach() {
    world.step(WorkersFound{{{.replica_id = "p-0", .inc = kOld, .pid = 77, .endpoint = "unix:/old"}}});
    world.attach(3, orch_at(1, 2));
    world.holders[3] = orch_at(1, 2);
    EXPECT_TRUE(world.sent<SendEarlierOver>().empty()) << "what the worker holds is not known";
    WorkerReport report = world.report_of(kOld);
    report.table = worker().table();
    world.step(report);
  }
  static constexpr Incarnation kOld{.boot = 2, .counter = 5};
  static constexpr LeaseId kLease{.boot = 2, .counter = 9};
  World world;
};

TEST_F(Found, OC_LEASE_L7_of_a_worker_that_was_found_the_word_waits_for_its_table) {
  find_and_attach();
  EXPECT_TRUE(world.sent<SendEarlierOver>().empty());
  world.finish(1);
  world.report(kOld);
  world.run(Duration::seconds(1));
  EXPECT_EQ(world.sent<SendEarlierOver>().size(), 1u);
}

TEST_F(Found, OC_LEASE_L7_a_job_under_a_lease_that_nobody_knows_may_be_of_an_earlier_boot) {
  apply(41, 0);  // closed gently: the job runs on
  find_and_attach();
  world.run(Duration::seconds(1));
  EXPECT_TRUE(world.sent<SendEarlierOver>().empty());
  world.finish(1);
  world.report(kOld);
  world.run(Duration::seconds(1));
  EXPECT_EQ(world.sent<SendEarlierOver>().size(), 1u);
}

}  // namespace
}  // namespace orch::pool
