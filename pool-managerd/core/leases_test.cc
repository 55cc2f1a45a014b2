#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

const std::vector<Bid> kIdle{{.pool_id = "p", .running = 0, .waiting = 0}};
std::vector<Bid> wants(std::uint32_t running, std::uint32_t waiting) {
  return {{.pool_id = "p", .running = running, .waiting = waiting}};
}

// A ready replica of four slots, orchestrators 1 and 2 attached on links 1 and 2.
struct Leases : ::testing::Test {
  Leases() : world(one_replica()) {
    world.start();
    for (const std::uint64_t n : {1u, 2u}) {
      world.holders[n] = orch_at(n);
      world.attach(n, orch_at(n));
    }
  }
  std::uint32_t held() { return world.manager.book_of("p-0")->held(); }
  const SendGrant& grant(std::uint64_t link) { return world.grants[link].rbegin()->second; }
  World world;
};

TEST_F(Leases, L2_a_grant_follows_the_workers_ack_and_never_the_request) {
  world.hold_tables = true;
  world.bid(1, kIdle);
  EXPECT_TRUE(world.sent<SendGrant>().empty());
  world.release_tables();
  EXPECT_EQ(world.granted(1), 4u) << "one holder: all slots as idle credit (S2)";
  EXPECT_TRUE(world.dispatch(1, 1).ok());
}

TEST_F(Leases, L2_one_table_is_in_flight_at_a_time_and_versions_grow) {
  world.hold_tables = true;
  world.bid(1, kIdle);
  world.bid(2, kIdle);
  world.bid(1, wants(0, 9));
  EXPECT_EQ(world.held_tables.size(), 1u);
  world.release_tables();
  world.release_tables();
  TableVersion last;
  for (const SendTable& each : world.sent<SendTable>()) {
    EXPECT_GT(each.table.version, last);
    last = each.table.version;
  }
}

TEST_F(Leases, L2_an_unacked_table_is_sent_again_with_a_higher_version) {
  world.hold_tables = true;
  world.bid(1, kIdle);
  ASSERT_EQ(world.held_tables.size(), 1u);
  world.held_tables.clear();  // lost
  world.run(Duration::seconds(6));
  ASSERT_FALSE(world.held_tables.empty());
  world.release_tables();
  EXPECT_EQ(world.granted(1), 4u);
}

TEST_F(Leases, L3_leases_carry_distinct_ids_and_secrets) {
  world.bid(1, wants(0, 2));
  world.bid(2, wants(0, 2));
  EXPECT_NE(grant(1).lease, grant(2).lease);
  EXPECT_NE(grant(1).secret, grant(2).secret);
  EXPECT_EQ(grant(1).lease.boot, 3u);
}

TEST_F(Leases, L4_a_renewal_is_relayed_once_and_granted_with_its_own_number) {
  world.bid(1, kIdle);
  EXPECT_EQ(grant(1).update_seq, 1u);
  world.update(1, kIdle);
  EXPECT_EQ(grant(1).update_seq, 2u);
  const std::uint64_t renewals = world.last<SendTable>().table.leases.front().renewal_seq;
  world.bid(2, kIdle);  // another table, without a renewal of the first
  EXPECT_EQ(world.last<SendTable>().table.leases.front().renewal_seq, renewals) << "never invented";
  EXPECT_EQ(grant(1).update_seq, 2u);
}

TEST_F(Leases, L4_an_old_update_changes_nothing) {
  world.bid(1, kIdle);
  world.bid(1, kIdle);
  const std::size_t tables = world.sent<SendTable>().size();
  world.step(HolderUpdate{.link = {1}, .seq = 1, .bids = {}, .renew = {grant(1).lease}, .release = {grant(1).lease}});
  EXPECT_EQ(world.sent<SendTable>().size(), tables);
  EXPECT_EQ(world.granted(1), 4u);
}

TEST_F(Leases, L4_without_renewal_the_lease_ends_and_not_before_the_workers_own_end) {
  world.bid(1, kIdle);
  world.standing.clear();
  world.run(Duration::seconds(15) - Duration{1});
  EXPECT_EQ(world.granted(1), 4u);
  world.run(Duration{1});
  ASSERT_FALSE(world.revokes.empty());
  EXPECT_EQ(world.revokes.back().reason, "expired");
  EXPECT_FALSE(world.revokes.back().stop);
}

TEST_F(Leases, L6_S3_a_slot_moves_when_it_is_idle_and_the_table_was_acked) {
  world.bid(1, wants(0, 4));
  for (std::uint64_t job = 1; job <= 4; ++job) ASSERT_TRUE(world.dispatch(1, job).ok());
  world.bid(1, wants(4, 0));
  world.report(world.inc());
  world.hold_tables = true;
  world.bid(2, wants(0, 4));
  EXPECT_EQ(held(), 4u);
  world.finish(1);
  world.report(world.inc());
  world.step(Tick{});
  EXPECT_EQ(world.granted(2), 0u) << "idle, but the table that gives the slot has not been acked";
  world.release_tables();
  EXPECT_EQ(world.granted(1), 3u) << "nothing to replace what ended";
  EXPECT_EQ(world.granted(2), 1u) << "three of the first still run";
  world.hold_tables = false;
  world.release_tables();
  ASSERT_TRUE(world.dispatch(2, 11).ok());
  world.bid(2, wants(1, 3));
  world.report(world.inc());
  world.step(Tick{});
  const std::size_t tables = world.sent<SendTable>().size();
  world.finish(2);
  world.hold_tables = true;
  world.report(world.inc());
  world.step(Tick{});
  EXPECT_EQ(world.granted(2), 2u) << "decided ahead: granted at the report, without a table";
  EXPECT_GE(world.sent<SendTable>().size(), tables);
}

TEST_F(Leases, L6_a_reaped_incarnation_frees_everything_at_once) {
  world.bid(1, wants(0, 4));
  ASSERT_TRUE(world.dispatch(1, 1).ok());
  const LeaseId old = grant(1).lease;
  world.die(world.inc(), 9);
  ASSERT_FALSE(world.revokes.empty());
  EXPECT_TRUE(world.revokes.back().stop);
  EXPECT_EQ(world.granted(1), 0u);
  world.run(Duration::seconds(2));
  EXPECT_EQ(world.granted(1), 4u);
  EXPECT_GT(grant(1).lease, old);
  EXPECT_EQ(grant(1).inc.counter, 2u);
}

TEST_F(Leases, L7_a_broken_attach_is_not_a_death) {
  world.bid(1, wants(0, 2));
  world.bid(2, wants(0, 2));
  ASSERT_TRUE(world.dispatch(1, 1).ok());
  const LeaseId lease = grant(1).lease;
  world.detach(1);
  world.bid(2, wants(0, 4));
  EXPECT_EQ(world.granted(2), 2u) << "its slots stay reserved";
  world.run(Duration::seconds(10));
  world.attach(3, orch_at(1));
  world.holders[3] = orch_at(1);
  world.update(3, wants(1, 1));
  EXPECT_EQ(grant(3).lease, lease);
  EXPECT_EQ(grant(3).update_seq, 1u) << "a number of the new link";
  world.report(world.inc());
  EXPECT_EQ(world.view().running, 1u);
}

TEST_F(Leases, L4_a_grant_never_carries_the_number_of_another_link) {
  world.bid(1, wants(0, 2));
  world.hold_tables = true;
  for (int i = 0; i < 5; ++i) world.bid(1, wants(0, 2));
  world.detach(1);
  world.attach(3, orch_at(1));
  world.holders[3] = orch_at(1);
  world.release_tables();
  world.release_tables();
  EXPECT_TRUE(world.grants[3].empty()) << "the renewal came over the link that is gone";
  world.update(3, wants(0, 2));
  world.release_tables();
  world.release_tables();
  EXPECT_EQ(grant(3).update_seq, 1u);
}

TEST_F(Leases, L7_a_holder_that_stays_away_loses_its_slots_when_they_expire) {
  world.bid(1, wants(0, 2));
  world.bid(2, wants(0, 4));
  world.detach(1);
  world.run(Duration::seconds(30));
  EXPECT_EQ(world.granted(2), 4u);
}

TEST_F(Leases, L7_a_higher_boot_revokes_the_older_at_once_and_stops_its_jobs) {
  world.bid(1, wants(0, 4));
  for (std::uint64_t job = 1; job <= 4; ++job) ASSERT_TRUE(world.dispatch(1, job).ok());
  world.report(world.inc());
  world.ends_stopped_jobs = false;
  world.attach(3, orch_at(1, 2));
  world.holders[3] = orch_at(1, 2);
  world.bid(3, wants(0, 4));
  EXPECT_EQ(world.last<AttachRefused>().link, LinkId{1});
  EXPECT_TRUE(world.last<SendTable>().table.leases.front().stop);
  EXPECT_EQ(world.granted(3), 0u) << "no slot before the old jobs have ended";
  for (std::uint64_t job = 1; job <= 4; ++job) world.finish(job);
  world.run(Duration::seconds(6));
  EXPECT_EQ(world.granted(3), 4u);
  world.attach(4, orch_at(1, 1));
  EXPECT_EQ(world.last<AttachRefused>().link, LinkId{4});
}

TEST_F(Leases, L7_a_clean_shutdown_releases_explicitly) {
  world.bid(1, wants(0, 4));
  world.standing.erase(1);
  world.update(1, {}, {grant(1).lease});
  world.grants[1].clear();
  world.bid(2, wants(0, 4));
  EXPECT_EQ(world.granted(2), 4u);
}

TEST_F(Leases, L7_a_foreign_lease_can_be_neither_renewed_nor_released) {
  world.bid(1, wants(0, 2));
  world.bid(2, wants(0, 2));
  const LeaseId foreign = grant(1).lease;
  world.grants[2][foreign] = grant(1);  // update() renews what it finds there
  world.update(2, wants(0, 2), {foreign});
  EXPECT_EQ(world.revokes.back().lease, foreign);
  EXPECT_EQ(world.revokes.back().link, LinkId{2});
  EXPECT_EQ(world.granted(1), 2u);
  EXPECT_NE(world.manager.book_of("p-0")->find(foreign), nullptr);
}

TEST_F(Leases, L9_declared_slots_that_shrink_take_idle_slots_first) {
  world.bid(1, wants(0, 2));
  world.bid(2, wants(0, 2));
  ASSERT_TRUE(world.dispatch(1, 1).ok());
  ASSERT_TRUE(world.dispatch(1, 2).ok());
  world.report(world.inc());
  world.step(Tick{});
  world.worker().arbiter.set_slots(3);
  world.report(world.inc());
  world.step(Tick{});
  EXPECT_EQ(world.granted(1), 2u);
  EXPECT_EQ(world.granted(2), 1u);
}

TEST_F(Leases, S2_slack_goes_out_as_equal_idle_credit) {
  world.bid(1, kIdle);
  world.bid(2, kIdle);
  world.run(Duration::seconds(6));
  EXPECT_EQ(world.granted(1), 2u);
  EXPECT_EQ(world.granted(2), 2u);
  world.bid(1, wants(1, 1));
  world.run(Duration::seconds(6));
  EXPECT_EQ(world.granted(1), 3u);
  EXPECT_EQ(world.granted(2), 1u);
}

// Four slots run for the first, which wants more; the second has `waiting` jobs.
struct Contended : Leases {
  Contended() {
    world.bid(1, wants(0, 4));
    for (std::uint64_t job = 1; job <= 4; ++job) EXPECT_TRUE(world.dispatch(1, job).ok());
    report();
    world.bid(1, wants(4, 9));
  }
  void report() {
    world.report(world.inc());
    world.step(Tick{});
  }
  std::vector<Bid> aged(std::uint32_t running, std::uint32_t waiting, double class_v, double tenant_v,
                        Duration age = {}) {
    Bid bid{.pool_id = "p", .running = running, .waiting = waiting, .tenants = {}};
    bid.tenants.push_back({JobClass::interactive, class_v, tenant_v, waiting, age});
    return {bid};
  }
};

TEST_F(Contended, S3_a_finished_slot_goes_to_the_lowest_bid) {
  world.bid(1, aged(4, 9, 1, 5));
  world.bid(2, aged(0, 1, 1, 4));
  world.finish(1);
  report();
  EXPECT_EQ(world.granted(2), 1u);
  ASSERT_TRUE(world.dispatch(2, 11).ok());
  EXPECT_FALSE(world.dispatch(1, 12).ok()) << "the first may not take it";
  report();
  world.bid(2, aged(1, 1, 1, 6));
  world.finish(2);
  report();
  EXPECT_EQ(world.granted(2), 0u) << "it runs one and gets none to replace it with";
  EXPECT_TRUE(world.dispatch(1, 13).ok());
}

// Each gateway hears of the others' service later than of its own: the second has heard more of the same class.
TEST_F(Contended, OC_SLOT_S3_a_class_is_served_as_much_whoever_says_it) {
  world.bid(1, aged(4, 9, 10, 5));
  world.bid(2, aged(0, 1, 12, 4));
  world.finish(1);
  report();
  EXPECT_EQ(world.granted(2), 1u) << "its tenant has been served less";
}

TEST_F(Contended, S3_equal_counters_fall_back_to_age_and_then_to_the_id) {
  world.bid(1, aged(4, 1, 0, 0, Duration::seconds(1)));
  world.bid(2, aged(0, 1, 0, 0, Duration::seconds(2)));
  world.finish(1);
  report();
  EXPECT_EQ(world.granted(2), 1u);
}

TEST_F(Contended, S4_a_grant_unused_for_its_patience_moves_on) {
  world.bid(1, aged(4, 9, 1, 5));
  world.bid(2, aged(0, 3, 1, 4));
  world.finish(1);
  report();
  ASSERT_EQ(world.granted(2), 1u);
  world.run(Duration::milliseconds(20) - Duration{1});
  EXPECT_EQ(world.granted(2), 1u);
  world.run(Duration{1});
  EXPECT_EQ(world.granted(2), 0u);
  EXPECT_EQ(world.granted(1), 4u);
  EXPECT_TRUE(world.dispatch(1, 12).ok());
}

TEST_F(Contended, S4_patience_grows_with_the_round_trip_the_holder_shows) {
  world.bid(1, aged(4, 9, 1, 5));
  world.bid(2, aged(0, 3, 1, 4));
  world.finish(1);
  report();
  ASSERT_EQ(world.granted(2), 1u);
  const auto grants = world.sent<SendGrant>();
  const auto seen = std::count_if(grants.begin(), grants.end(), [](const SendGrant& g) { return g.link.value == 2; });
  world.now = world.now + Duration::milliseconds(16);
  HolderUpdate update;
  update.link = {2};
  update.seq = 99;
  update.bids = aged(0, 3, 1, 4);
  update.grants_seen = static_cast<std::uint64_t>(seen);
  update.grant_age = Duration::milliseconds(6);  // so the way took 10 ms
  world.step(update);
  world.run(Duration::milliseconds(24) - Duration{1});
  EXPECT_EQ(world.granted(2), 1u) << "4 round trips of 10 ms";
  world.run(Duration{1});
  EXPECT_EQ(world.granted(2), 0u);
}

TEST_F(Contended, S5_a_bid_without_a_grant_gets_the_next_slot_after_its_time) {
  world.bid(1, aged(4, 9, 0, 0));
  world.bid(2, aged(0, 9, 5, 5));
  world.run(Duration::milliseconds(10));
  const auto replace_one = [&](std::uint64_t old, std::uint64_t fresh) {
    world.finish(old);
    report();
    const bool replaced = world.dispatch(1, fresh).ok();
    report();
    return replaced;
  };
  // Jobs of 20 ms until the second's bid is a second old.
  std::uint64_t job = 1;
  for (; job < 50; ++job) {
    EXPECT_TRUE(replace_one(job, job + 4)) << "the second is not lowest";
    world.run(Duration::milliseconds(20));
  }
  world.run(Duration::milliseconds(10));
  EXPECT_FALSE(replace_one(job, 0)) << "now it is its turn";
  EXPECT_EQ(world.granted(2), 1u);
  ASSERT_TRUE(world.dispatch(2, 1001).ok());
  report();
  world.bid(2, aged(1, 8, 5, 5));
  EXPECT_TRUE(replace_one(job + 1, 1002)) << "one slot, not more";
}

TEST_F(Contended, S5_the_time_grows_with_the_jobs) {
  // A job ends every second, each after four.
  world.bid(1, aged(4, 9, 0, 0));
  std::uint64_t oldest = 1;
  const auto one_second = [&] {
    world.run(Duration::seconds(1));
    world.finish(oldest);
    report();
    if (world.granted(2) > 0) return false;
    EXPECT_TRUE(world.dispatch(1, oldest++ + 4).ok());
    report();
    return true;
  };
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(one_second());
  world.bid(2, aged(0, 9, 5, 5));
  int seconds = 1;
  while (one_second() && seconds < 100) ++seconds;
  EXPECT_GE(seconds, 7) << "2 mean job times";
  EXPECT_LE(seconds, 10);
}

TEST_F(Leases, S5_leases_of_size_0_are_legal_and_renewed) {
  world.bid(1, wants(0, 4));
  for (std::uint64_t job = 1; job <= 4; ++job) ASSERT_TRUE(world.dispatch(1, job).ok());
  world.report(world.inc());
  world.bid(1, wants(4, 0));
  world.bid(2, wants(0, 1));
  ASSERT_FALSE(world.grants[2].empty());
  EXPECT_EQ(grant(2).slots, 0u);
  const LeaseId lease = grant(2).lease;
  for (int i = 0; i < 30; ++i) {
    world.run(Duration::seconds(1));
    world.worker().steps += 1;
  }
  EXPECT_EQ(grant(2).lease, lease);
}

TEST_F(Leases, S6_a_bid_not_repeated_counts_as_empty_for_the_others) {
  world.bid(1, kIdle);
  world.bid(2, kIdle);
  world.standing.erase(1);
  world.run(Duration::seconds(5) - Duration{1});
  EXPECT_EQ(world.granted(2), 2u);
  world.run(Duration::milliseconds(1));
  EXPECT_EQ(world.granted(2), 4u) << "a third of TTL";
}

TEST_F(Leases, S6_with_nobody_else_a_stale_bid_keeps_its_slots) {
  world.bid(1, wants(0, 4));
  world.standing.erase(1);
  world.run(Duration::seconds(14));
  EXPECT_EQ(world.granted(1), 4u);
}

TEST_F(Leases, S1_a_bid_of_bad_numbers_or_too_many_tenants_is_refused_by_name) {
  const auto refused = [&](std::size_t tenants, double class_v, double tenant_v) {
    world.attach(9, orch_at(9));
    Bid bid{.pool_id = "p", .running = 0, .waiting = 1, .tenants = {}};
    bid.tenants.assign(tenants, {JobClass::batch, class_v, tenant_v, 1, Duration{}});
    const std::size_t before = world.sent<AttachRefused>().size();
    world.update(9, {bid});
    return world.sent<AttachRefused>().size() > before ? world.last<AttachRefused>().field : std::string("accepted");
  };
  EXPECT_EQ(refused(33, 0, 0), "update.bids[0].tenants");
  EXPECT_EQ(refused(1, -1, 0), "update.bids[0].tenants.class_v");
  EXPECT_EQ(refused(1, std::numeric_limits<double>::quiet_NaN(), 0), "update.bids[0].tenants.class_v");
  EXPECT_EQ(refused(1, 0, std::numeric_limits<double>::infinity()), "update.bids[0].tenants.tenant_v");
  EXPECT_EQ(refused(32, 1, 1), "accepted");
}

TEST_F(Leases, a_holder_that_bids_no_more_gives_its_lease_back) {
  world.bid(1, wants(0, 2));
  world.bid(1, {});
  EXPECT_EQ(world.revokes.back().reason, "no bid");
  EXPECT_EQ(world.granted(1), 0u);
}

TEST_F(Leases, an_unknown_pool_in_a_bid_is_nothing) {
  world.bid(1, {{.pool_id = "nowhere", .running = 1, .waiting = 1}});
  EXPECT_EQ(world.granted(1), 0u);
}

TEST_F(Leases, an_update_beyond_the_limit_closes_the_link_and_names_the_field) {
  world.update(1, kIdle, std::vector<LeaseId>(5000));
  EXPECT_EQ(world.last<AttachRefused>().field, "update.release");
  EXPECT_EQ(world.manager.attached(), 1u);
}

TEST(Attachments, links_are_bounded) {
  Settings settings = one_replica();
  settings.limits.links_max = 2;
  World world(settings);
  world.start();
  for (std::uint64_t n = 1; n <= 3; ++n) world.attach(n, orch_at(n));
  EXPECT_EQ(world.sent<AttachWelcome>().size(), 2u);
  EXPECT_THAT(world.last<AttachRefused>().message, ::testing::HasSubstr("at most 2"));
  world.detach(1);
  world.attach(4, orch_at(4));
  EXPECT_EQ(world.sent<AttachWelcome>().size(), 3u);
}

}  // namespace
}  // namespace orch::pool
