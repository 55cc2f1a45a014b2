#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST_F(Leases, L6_a_slot_moves_only_after_the_ack_and_when_it_is_idle) {
  world.bid(1, wants(0, 4));
  for (std::uint64_t job = 1; job <= 4; ++job) ASSERT_TRUE(world.dispatch(1, job).ok());
  world.bid(1, wants(4, 0));
  world.report(world.inc());
  world.hold_tables = true;
  world.bid(2, wants(0, 4));
  EXPECT_EQ(held(), 4u);
  world.release_tables();
  EXPECT_EQ(world.granted(1), 2u) << "shrunk to its share";
  EXPECT_EQ(world.granted(2), 0u) << "but all four slots are still running";
  world.finish(1);
  world.run(Duration::seconds(6));
  EXPECT_EQ(world.granted(2), 0u) << "the table that gives the idle slot has not been acked";
  world.release_tables();
  EXPECT_EQ(world.granted(2), 1u) << "three of the first still run";
  world.finish(2);
  world.finish(3);
  world.run(Duration::seconds(6));
  world.release_tables();  // what was in flight, then the one that gives them
  world.release_tables();
  EXPECT_EQ(world.granted(2), 2u);
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

TEST_F(Leases, S6_a_bid_not_repeated_counts_as_empty_for_the_others) {
  world.bid(1, wants(0, 4));
  world.bid(2, wants(0, 4));
  world.standing.erase(1);
  world.run(Duration::seconds(14));
  EXPECT_EQ(world.granted(2), 4u);
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
