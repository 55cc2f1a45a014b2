// Leases, renewals, heartbeats and links, as the holder sees them.
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

TEST(Lease, L4_the_holders_end_counts_from_the_instant_of_sending) {
  Bench bench;
  bench.manager_up();  // the update is sent now
  bench.now = bench.now + ms(4000);
  bench.grant();
  const auto& lease = bench.core.leases().all().begin()->second;
  EXPECT_EQ(lease.end, bench.now - ms(4000) + ms(13500));
}

TEST(Lease, L4_no_dispatch_at_or_after_the_holders_end) {
  Bench bench;
  bench.ready();
  bench.step(ManagerDown{kLink});  // no renewal any more
  bench.now = bench.now + ms(13500);
  ReplicaView other = ready_replica("r9");
  bench.step(ManagerUp{LinkId{2}, ManagerId{{0xB0, 2}}, 1, {other}});  // so that the job is admitted
  bench.submit(spec_of(1));
  EXPECT_TRUE(bench.dispatches.empty());
}

TEST(Lease, L4_S1_renewed_within_every_third_of_the_ttl_in_one_message) {
  Bench bench;
  bench.ready();
  bench.grant(1, {1, 2});
  const auto updates = all_of<SendUpdate>(bench.advance(ms(15000)));
  ASSERT_EQ(updates.size(), 4u) << "every quarter: S6 takes older bids for empty";
  EXPECT_EQ(updates[0].renew, (std::vector{LeaseId{1, 1}, LeaseId{1, 2}}));
}

TEST(Lease, a_grant_for_an_update_never_sent_is_ignored) {
  Bench bench;
  bench.manager_up();
  bench.last_seq += 5;
  bench.grant();
  EXPECT_TRUE(bench.core.leases().all().empty());
  EXPECT_EQ(bench.core.ignored().grants, 1u);
}

TEST(Lease, L4_a_lease_that_is_over_before_it_is_heard_of_is_given_back) {
  Bench bench;
  bench.manager_up();
  bench.now = bench.now + ms(13500);  // the manager stood still and answers the first update only now
  const auto updates = all_of<SendUpdate>(bench.grant());
  EXPECT_TRUE(bench.core.leases().all().empty());
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].release, (std::vector{LeaseId{1, 1}}));
}

TEST(Lease, a_grant_for_another_incarnation_is_ignored) {
  Bench bench;
  bench.manager_up();
  bench.grant(1, {1, 1}, "r1", {1, 9});
  EXPECT_TRUE(bench.core.leases().all().empty());
}

TEST(Lease, L7_a_broken_link_lets_leases_run_to_their_end) {
  Bench bench;
  bench.ready(2);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  bench.submit(spec_of(3));
  bench.step(ManagerDown{kLink});
  bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(bench.dispatches.size(), 3u);  // the lease still admits
  EXPECT_EQ(all_of<BeatWorker>(bench.advance(ms(13000))).size(), 2u);
  EXPECT_EQ(bench.ends.size(), 1u);
}

TEST(Lease, L7_after_a_reconnect_the_same_leases_are_renewed_on_the_new_link) {
  Bench bench;
  bench.ready();
  bench.step(ManagerDown{kLink});
  const auto updates = all_of<SendUpdate>(bench.step(ManagerUp{LinkId{2}, kManager, 1, {ready_replica()}}));
  ASSERT_EQ(updates.size(), 1u);
  EXPECT_EQ(updates[0].seq, 1u);
  EXPECT_EQ(updates[0].renew, (std::vector{LeaseId{1, 1}}));
}

TEST(Lease, L7_a_restarted_manager_closes_the_leases_of_its_old_boot) {
  Bench bench;
  bench.ready();
  bench.step(ManagerDown{kLink});
  ReplicaView again = ready_replica();
  again.inc = {2, 1};
  bench.step(ManagerUp{LinkId{2}, kManager, 2, {again}});
  bench.submit(spec_of(1));
  EXPECT_TRUE(bench.dispatches.empty());
}

// Its manager died before the worker heard of the revocation, and the next one goes by the worker's table.
TEST(Lease, L8_a_lease_that_was_revoked_and_is_granted_again_is_given_back) {
  Bench bench;
  bench.ready(2);
  bench.step(LeaseRevoked{kLink, {1, 1}, false});
  bench.grant(2);
  std::vector<LeaseId> released;
  for (const SendUpdate& update : all_of<SendUpdate>(bench.advance(ms(100))))
    released.insert(released.end(), update.release.begin(), update.release.end());
  EXPECT_EQ(released, (std::vector{LeaseId{1, 1}}));
}

TEST(Lease, a_revoked_lease_admits_nothing_and_its_jobs_go_on) {
  Bench bench;
  bench.ready(2);
  bench.submit(spec_of(1));
  bench.step(LeaseRevoked{kLink, {1, 1}, false});
  bench.submit(spec_of(2));
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.grant(2);  // the same id never opens again
  EXPECT_EQ(bench.dispatches.size(), 1u);
  bench.finished(bench.dispatches[0], 1);
  EXPECT_FALSE(bench.ends.at(0).failure);
}

TEST(Lease, L9_a_draining_replica_gets_nothing_new) {
  Bench bench;
  bench.ready();
  bench.submit(spec_of(1));
  ReplicaView draining = ready_replica();
  draining.state = ReplicaState::draining;
  bench.step(ReplicaChanged{kLink, draining});
  bench.finished(bench.dispatches[0], 1);
  EXPECT_FALSE(bench.ends.at(0).failure);
  EXPECT_EQ(bench.core.leases().all().begin()->second.in_use, 0u);
}

TEST(Lease, shrinking_below_use_stops_new_dispatches_alone) {
  Bench bench;
  bench.ready(2);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  bench.submit(spec_of(3));
  bench.grant(1);
  bench.finished(bench.dispatches[0], 1);
  EXPECT_EQ(bench.dispatches.size(), 2u);
  bench.finished(bench.dispatches[1], 1);
  EXPECT_EQ(bench.dispatches.size(), 3u);
}

// The manager gives the slot to nobody before it hears that the smaller size came, and what still runs beyond it.
TEST(Lease, L6_a_smaller_size_is_said_to_have_been_heard) {
  Bench bench;
  bench.ready(2);
  bench.submit(spec_of(1));
  bench.submit(spec_of(2));
  ASSERT_EQ(bench.dispatches.size(), 2u);
  bench.advance(ms(100));
  const auto updates = all_of<SendUpdate>(bench.grant(1));
  ASSERT_EQ(updates.size(), 1u) << "at once, not with the next renewal";
  EXPECT_EQ(updates[0].grants_seen, bench.grants);
  EXPECT_EQ(updates[0].beyond, (std::vector<LeaseUse>{{{1, 1}, 2}}));
  bench.finished(bench.dispatches[0], 0);
  const auto later = all_of<SendUpdate>(bench.advance(ms(20)));
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].beyond, (std::vector<LeaseUse>{{{1, 1}, 2}})) << "the other may be admitted as the second of two";
  bench.started(bench.dispatches[1]);
  const auto last = all_of<SendUpdate>(bench.advance(ms(20)));
  ASSERT_EQ(last.size(), 1u);
  EXPECT_TRUE(last[0].beyond.empty());
}

TEST(Lease, L6_a_second_copy_of_a_grant_says_nothing) {
  Bench bench;
  bench.ready(2);
  bench.grant(1);
  bench.grants -= 2;  // the one of two slots comes again
  bench.grant(2);
  EXPECT_EQ(bench.core.leases().all().begin()->second.slots, 1u);
  EXPECT_EQ(bench.core.ignored().grants, 1u);
}

TEST(Heartbeat, L5_a_held_worker_hears_from_us_before_the_first_dispatch_and_every_third_of_the_ttl) {
  Bench bench;
  bench.manager_up();
  bench.submit(spec_of(1));
  const Effects effects = bench.grant();
  std::size_t beat = effects.size();
  std::size_t dispatch = effects.size();
  for (std::size_t i = 0; i < effects.size(); ++i) {
    if (std::holds_alternative<BeatWorker>(effects[i])) beat = i;
    if (std::holds_alternative<Dispatch>(effects[i])) dispatch = i;
  }
  ASSERT_LT(dispatch, effects.size());
  EXPECT_LT(beat, dispatch);
  EXPECT_EQ(all_of<BeatWorker>(bench.advance(ms(10000))).size(), 2u);
}

TEST(Heartbeat, L5_a_worker_is_forgotten_when_nothing_of_it_is_held) {
  Bench bench;
  bench.ready();
  bench.step(ManagerDown{kLink});
  const auto forgotten = all_of<ForgetWorker>(bench.advance(ms(13500)));
  ASSERT_EQ(forgotten.size(), 1u);
  EXPECT_EQ(forgotten[0].endpoint, "unix:/r1");
}

TEST(Bids, S1_tell_running_and_waiting_per_pool_and_are_not_sent_more_often_than_every_20_ms) {
  Bench bench;
  bench.ready(1);
  Effects effects;
  for (std::uint64_t n = 1; n <= 4; ++n) {
    const Effects some = bench.submit(spec_of(n));
    effects.insert(effects.end(), some.begin(), some.end());
  }
  EXPECT_TRUE(all_of<SendUpdate>(effects).empty());
  const auto updates = all_of<SendUpdate>(bench.advance(ms(20)));
  ASSERT_EQ(updates.size(), 1u);
  ASSERT_EQ(updates[0].bids.size(), 1u);
  EXPECT_EQ(updates[0].bids[0].running, 1u);
  EXPECT_EQ(updates[0].bids[0].waiting, 3u);
  EXPECT_TRUE(updates[0].renew.empty());
}

TEST(Fleet, waiting_jobs_of_a_model_that_failed_for_good_are_told) {
  Bench bench;
  bench.manager_up();
  bench.submit(spec_of(1));
  ReplicaView failed = ready_replica();
  failed.state = ReplicaState::failed;
  failed.last_error = "digest: wrong";
  bench.step(ReplicaChanged{kLink, failed});
  ASSERT_EQ(bench.ends.size(), 1u);
  EXPECT_EQ(bench.ends[0].failure->outcome, Outcome::POOL_UNREADY);
  EXPECT_NE(bench.ends[0].failure->message.find("digest: wrong"), std::string::npos);
}

TEST(Fleet, managers_are_bounded) {
  Config config;
  config.limits.managers_max = 8;
  Bench bench{config};
  for (std::uint64_t n = 1; n <= 10; ++n) {
    bench.step(ManagerUp{LinkId{n}, ManagerId{{0xC0, n}}, 1, {}});
  }
  EXPECT_EQ(bench.core.fleet().managers().size(), 8u);
}

TEST(Fleet, OC_CORE_1019_the_manager_that_has_been_gone_longest_makes_room_and_none_that_is_there) {
  Config config;
  config.limits.managers_max = 3;
  Bench bench{config};
  for (std::uint64_t n = 1; n <= 3; ++n) bench.step(ManagerUp{LinkId{n}, ManagerId{{0xC0, n}}, 1, {}});
  for (const std::uint64_t n : {2u, 1u}) {
    bench.step(ManagerDown{LinkId{n}});
    bench.advance(ms(10));
  }
  bench.step(ManagerUp{LinkId{4}, ManagerId{{0xC0, 4}}, 1, {}});
  const auto& known = bench.core.fleet().managers();
  EXPECT_EQ(known.size(), 3u);
  EXPECT_TRUE(known.contains(ManagerId{{0xC0, 4}}));
  EXPECT_TRUE(known.contains(ManagerId{{0xC0, 1}}));
  EXPECT_FALSE(known.contains(ManagerId{{0xC0, 2}}));
  bench.step(ManagerUp{LinkId{5}, ManagerId{{0xC0, 5}}, 1, {}});
  bench.step(ManagerUp{LinkId{6}, ManagerId{{0xC0, 6}}, 1, {}});  // nobody is gone now
  EXPECT_TRUE(known.contains(ManagerId{{0xC0, 5}}));
  EXPECT_FALSE(known.contains(ManagerId{{0xC0, 6}}));
}

}  // namespace
}  // namespace orch::gateway
