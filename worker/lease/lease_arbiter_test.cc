#include "worker/lease/lease_arbiter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace orch::worker {
namespace {

constexpr Duration kTtl = Duration::seconds(15);
constexpr Instant kStart{1'000'000'000};

ManagerId manager(std::uint64_t n = 1) { return ManagerId{Uuid{7, n}}; }
Holder holder(std::uint64_t n = 1, std::uint64_t boot = 1) { return {.orch = OrchId{Uuid{9, n}}, .boot = boot}; }
DispatchId dispatch(std::uint64_t n, std::uint32_t attempt = 1) {
  return {.job = JobId{Uuid{3, n}}, .attempt = attempt};
}
Secret secret(std::uint8_t fill) {
  Secret out{};
  out.fill(fill);
  return out;
}
constexpr Incarnation kInc{.boot = 4, .counter = 2};

LeaseEntry entry(std::uint64_t id, std::uint32_t slots, std::uint64_t renewal = 1) {
  return {.id = {.boot = 4, .counter = id},
          .holder = holder(id),
          .slots = slots,
          .secret = secret(static_cast<std::uint8_t>(id)),
          .renewal_seq = renewal};
}
LeaseTable table(std::uint64_t version, std::vector<LeaseEntry> leases) {
  return {.version = {.boot = 4, .counter = version}, .ttl = kTtl, .leases = std::move(leases)};
}
Fence fence(std::uint64_t lease) {
  return {.manager = manager(),
          .inc = kInc,
          .lease = {.boot = 4, .counter = lease},
          .secret = secret(static_cast<std::uint8_t>(lease))};
}
LeaseArbiter bound(std::uint32_t slots, std::size_t attempts_max = 64) {
  LeaseArbiter arbiter({.slots = slots, .leases_max = 8, .attempts_max = attempts_max});
  EXPECT_TRUE(arbiter.bind(manager(), kInc));
  return arbiter;
}
void expect_refused(const Status<Outcome>& status, Outcome outcome) {
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error(), outcome);
}

TEST(LeaseArbiter, L2_applies_only_higher_versions) {
  auto arbiter = bound(4);
  EXPECT_EQ(arbiter.apply(table(5, {entry(1, 2)}), kStart), LeaseArbiter::Applied::ok);
  EXPECT_EQ(arbiter.apply(table(5, {}), kStart), LeaseArbiter::Applied::stale);
  EXPECT_EQ(arbiter.apply(table(4, {}), kStart), LeaseArbiter::Applied::stale);
  EXPECT_EQ(arbiter.version(), (TableVersion{.boot = 4, .counter = 5}));
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok()) << "a stale table removes nothing";
  LeaseTable next_boot = table(1, {});
  next_boot.version.boot = 5;
  EXPECT_EQ(arbiter.apply(next_boot, kStart), LeaseArbiter::Applied::ok);
}

TEST(LeaseArbiter, L2_an_unbound_worker_has_no_manager_and_admits_nothing) {
  LeaseArbiter arbiter({.slots = 4});
  EXPECT_EQ(arbiter.apply(table(1, {entry(1, 2)}), kStart), LeaseArbiter::Applied::stale);
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(1), kStart), Outcome::STALE_LEASE);
  EXPECT_TRUE(arbiter.bind(manager(), kInc));
  EXPECT_TRUE(arbiter.bind(manager(), kInc));
  EXPECT_FALSE(arbiter.bind(manager(2), kInc));
  EXPECT_FALSE(arbiter.bind(manager(), Incarnation{.boot = 4, .counter = 3}));
}

TEST(LeaseArbiter, L2_a_malformed_table_changes_nothing) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 2)}), kStart), LeaseArbiter::Applied::ok);
  EXPECT_EQ(arbiter.apply(table(2, {entry(2, 1), entry(2, 1)}), kStart), LeaseArbiter::Applied::malformed);
  LeaseEntry other_holder = entry(1, 2);
  other_holder.holder = holder(2);
  EXPECT_EQ(arbiter.apply(table(2, {other_holder}), kStart), LeaseArbiter::Applied::malformed);
  LeaseEntry other_secret = entry(1, 2);
  other_secret.secret = secret(99);
  EXPECT_EQ(arbiter.apply(table(2, {other_secret}), kStart), LeaseArbiter::Applied::malformed);
  std::vector<LeaseEntry> many;
  for (std::uint64_t i = 1; i <= 9; ++i) many.push_back(entry(i, 0));
  EXPECT_EQ(arbiter.apply(table(2, many), kStart), LeaseArbiter::Applied::malformed);
  EXPECT_EQ(arbiter.version().counter, 1u);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
}

TEST(LeaseArbiter, L3_worker_refuses_every_foreign_part_of_a_fence) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4), entry(2, 4)}), kStart), LeaseArbiter::Applied::ok);
  Fence bad = fence(1);
  bad.manager = manager(2);
  expect_refused(arbiter.admit(bad, holder(1), dispatch(1), kStart), Outcome::STALE_LEASE);
  bad = fence(1);
  bad.inc.counter = 3;
  expect_refused(arbiter.admit(bad, holder(1), dispatch(1), kStart), Outcome::STALE_LEASE);
  bad = fence(1);
  bad.lease.counter = 3;
  expect_refused(arbiter.admit(bad, holder(1), dispatch(1), kStart), Outcome::STALE_LEASE);
  for (std::size_t byte = 0; byte < 16; ++byte) {
    bad = fence(1);
    bad.secret.at(byte) ^= 1;
    expect_refused(arbiter.admit(bad, holder(1), dispatch(1), kStart), Outcome::STALE_LEASE);
  }
  expect_refused(arbiter.admit(fence(1), holder(2), dispatch(1), kStart), Outcome::STALE_LEASE);
  expect_refused(arbiter.admit(fence(1), holder(1, 2), dispatch(1), kStart), Outcome::STALE_LEASE);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok())
      << "refusals are not remembered as attempts";
}

TEST(LeaseArbiter, L3_lease_admits_up_to_its_slots_and_the_worker_up_to_the_declared) {
  auto arbiter = bound(3);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 2), entry(2, 2), entry(3, 0)}), kStart), LeaseArbiter::Applied::ok);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(2), kStart).ok());
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(3), kStart), Outcome::SLOT_BUSY);
  expect_refused(arbiter.admit(fence(3), holder(3), dispatch(3), kStart), Outcome::SLOT_BUSY);
  EXPECT_TRUE(arbiter.admit(fence(2), holder(2), dispatch(3), kStart).ok());
  expect_refused(arbiter.admit(fence(2), holder(2), dispatch(4), kStart), Outcome::SLOT_BUSY);
  arbiter.ended(dispatch(1), JobEnd::finished);
  EXPECT_TRUE(arbiter.admit(fence(2), holder(2), dispatch(4), kStart).ok());
  EXPECT_EQ(arbiter.uses(), (std::vector<LeaseUse>{{.id = {4, 1}, .running = 1}, {.id = {4, 2}, .running = 2}}));
}

TEST(LeaseArbiter, L3_an_attempt_is_accepted_once) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4)}), kStart), LeaseArbiter::Applied::ok);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1, 1), kStart).ok());
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(1, 1), kStart), Outcome::DUPLICATE_ATTEMPT);
  arbiter.ended(dispatch(1, 1), JobEnd::finished);
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(1, 1), kStart), Outcome::DUPLICATE_ATTEMPT);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1, 2), kStart).ok());
}

TEST(LeaseArbiter, L3_remembered_attempts_are_bounded_and_running_ones_are_never_forgotten) {
  auto arbiter = bound(4, 8);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1000), kStart).ok());
  for (std::uint64_t i = 1; i <= 50; ++i) {
    ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(i), kStart).ok()) << i;
    arbiter.ended(dispatch(i), JobEnd::finished);
  }
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(1000), kStart), Outcome::DUPLICATE_ATTEMPT);
  for (std::uint64_t i = 44; i <= 50; ++i) {
    expect_refused(arbiter.admit(fence(1), holder(1), dispatch(i), kStart), Outcome::DUPLICATE_ATTEMPT);
  }
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
}

TEST(LeaseArbiter, L4_worker_extends_only_by_a_higher_renewal) {
  auto arbiter = bound(4);
  const auto second = [](int n) { return kStart + Duration::seconds(n); };
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4, 5)}), second(0)), LeaseArbiter::Applied::ok);
  ASSERT_EQ(arbiter.apply(table(2, {entry(1, 4, 5)}), second(10)), LeaseArbiter::Applied::ok);
  ASSERT_EQ(arbiter.apply(table(3, {entry(1, 4, 4)}), second(10)), LeaseArbiter::Applied::ok);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), second(15) - Duration{1}).ok());
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(2), second(15)), Outcome::STALE_LEASE);
  ASSERT_EQ(arbiter.apply(table(4, {entry(1, 4, 6)}), second(20)), LeaseArbiter::Applied::ok);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(2), second(35) - Duration{1}).ok());
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(3), second(35)), Outcome::STALE_LEASE);
}

TEST(LeaseArbiter, L5_running_jobs_outlive_their_lease_while_heartbeats_come) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  ASSERT_EQ(arbiter.apply(table(2, {}), kStart), LeaseArbiter::Applied::ok);
  for (int s = 5; s <= 100; s += 5) {
    arbiter.heartbeat(holder(1), kStart + Duration::seconds(s));
    EXPECT_TRUE(arbiter.jobs_to_stop(kStart + Duration::seconds(s)).empty());
  }
  const Instant silent = kStart + Duration::seconds(115);
  EXPECT_EQ(arbiter.next_wakeup(), silent);
  EXPECT_TRUE(arbiter.jobs_to_stop(silent - Duration{1}).empty());
  const auto stops = arbiter.jobs_to_stop(silent);
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_EQ(stops.front().dispatch, dispatch(1));
  EXPECT_EQ(stops.front().reason, LeaseArbiter::StopReason::holder_silent);
  EXPECT_TRUE(arbiter.jobs_to_stop(silent).empty()) << "named once";
  EXPECT_EQ(arbiter.uses().size(), 1u) << "the slot is taken until the engine is done";
  EXPECT_TRUE(arbiter.next_wakeup().is_never());
}

TEST(LeaseArbiter, L5_an_old_beat_does_not_stop_a_new_job_and_a_new_job_does_not_keep_an_old_one) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(2), kStart + Duration::seconds(14)).ok());
  const auto stops = arbiter.jobs_to_stop(kStart + kTtl);
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_EQ(stops.front().dispatch, dispatch(1));
}

TEST(LeaseArbiter, L5_a_broken_holder_stream_stops_its_jobs_and_no_others) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 2), entry(2, 2)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  ASSERT_TRUE(arbiter.admit(fence(2), holder(2), dispatch(2), kStart).ok());
  arbiter.holder_broken(holder(1));
  EXPECT_LE(arbiter.next_wakeup(), kStart);
  const auto stops = arbiter.jobs_to_stop(kStart);
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_EQ(stops.front().dispatch, dispatch(1));
  EXPECT_EQ(stops.front().reason, LeaseArbiter::StopReason::holder_broken);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(3), kStart).ok()) << "the lease itself still stands";
}

TEST(LeaseArbiter, L5_strangers_beats_are_not_kept) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 2)}), kStart), LeaseArbiter::Applied::ok);
  arbiter.heartbeat(holder(3), kStart + Duration::seconds(100));
  ASSERT_EQ(arbiter.apply(table(2, {entry(3, 2)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(3), holder(3), dispatch(1), kStart).ok());
  EXPECT_EQ(arbiter.jobs_to_stop(kStart + kTtl).size(), 1u);
}

TEST(LeaseArbiter, L7_a_revoked_lease_stops_its_jobs_and_admits_nothing) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 2), entry(2, 2)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  ASSERT_TRUE(arbiter.admit(fence(2), holder(2), dispatch(2), kStart).ok());
  LeaseEntry revoked = entry(1, 2);
  revoked.stop = true;
  ASSERT_EQ(arbiter.apply(table(2, {revoked, entry(2, 2)}), kStart), LeaseArbiter::Applied::ok);
  const auto stops = arbiter.jobs_to_stop(kStart);
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_EQ(stops.front().dispatch, dispatch(1));
  EXPECT_EQ(stops.front().reason, LeaseArbiter::StopReason::revoked);
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(3), kStart), Outcome::STALE_LEASE);
}

TEST(LeaseArbiter, L9_a_draining_worker_admits_nothing_and_stops_the_rest_at_the_deadline) {
  auto arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  arbiter.begin_drain(kStart + Duration::seconds(2));
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(2), kStart), Outcome::STALE_LEASE);
  EXPECT_TRUE(arbiter.jobs_to_stop(kStart + Duration::seconds(1)).empty());
  EXPECT_EQ(arbiter.next_wakeup(), kStart + Duration::seconds(2));
  const auto stops = arbiter.jobs_to_stop(kStart + Duration::seconds(2));
  ASSERT_EQ(stops.size(), 1u);
  EXPECT_EQ(stops.front().reason, LeaseArbiter::StopReason::drain_over);
}

TEST(LeaseArbiter, OC_POOL_3059_a_draining_worker_counts_what_its_deadline_has_cost) {
  auto arbiter = bound(5);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 4), entry(2, 1)}), kStart), LeaseArbiter::Applied::ok);
  for (std::uint32_t job = 1; job <= 4; ++job)
    ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(job), kStart).ok()) << job;
  ASSERT_TRUE(arbiter.admit(fence(2), holder(2), dispatch(5), kStart).ok());
  arbiter.begin_drain(kStart + Duration::seconds(2));
  arbiter.ended(dispatch(1), JobEnd::failed);
  arbiter.holder_broken(holder(2));
  EXPECT_EQ(arbiter.jobs_to_stop(kStart + Duration::seconds(2)).size(), 4u);
  EXPECT_EQ(arbiter.jobs_cut(), 0u) << "none of them is over";
  arbiter.ended(dispatch(2), JobEnd::finished);
  arbiter.ended(dispatch(3), JobEnd::failed);
  arbiter.ended(dispatch(3), JobEnd::failed);
  arbiter.ended(dispatch(5), JobEnd::failed);
  EXPECT_EQ(arbiter.jobs_cut(), 1u) << "one failed before, one was done in time, one was stopped for its holder";
  EXPECT_EQ(arbiter.jobs_ended(), 4u);
  EXPECT_EQ(arbiter.running(), 1u);
}

TEST(LeaseArbiter, L8_a_draining_worker_says_how_long_it_still_runs_jobs) {
  auto arbiter = bound(2);
  EXPECT_FALSE(arbiter.drain_left(kStart));
  arbiter.begin_drain(kStart + Duration::seconds(3));
  EXPECT_EQ(arbiter.drain_left(kStart + Duration::seconds(1)), Duration::seconds(2));
  EXPECT_EQ(arbiter.drain_left(kStart + Duration::seconds(9)), Duration{});
}

// A call that its holder gave up still runs: the slot that the table has ahead is not the holder's yet.
TEST(LeaseArbiter, L6_a_holder_runs_no_more_than_the_slots_it_knows_of) {
  LeaseArbiter arbiter = bound(4);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 2)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart, 1).ok());
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(2), kStart, 1), Outcome::SLOT_BUSY);
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(2), kStart, 2).ok());
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(3), kStart, 9), Outcome::SLOT_BUSY);
}

TEST(LeaseArbiter, L9_fewer_declared_slots_keep_running_jobs_and_admit_none_above) {
  auto arbiter = bound(2);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 2)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  arbiter.set_slots(1);
  expect_refused(arbiter.admit(fence(1), holder(1), dispatch(2), kStart), Outcome::SLOT_BUSY);
  EXPECT_EQ(arbiter.running(), 1u);
}

TEST(LeaseArbiter, ended_twice_frees_one_slot) {
  auto arbiter = bound(1);
  ASSERT_EQ(arbiter.apply(table(1, {entry(1, 1)}), kStart), LeaseArbiter::Applied::ok);
  ASSERT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(1), kStart).ok());
  arbiter.ended(dispatch(1), JobEnd::finished);
  arbiter.ended(dispatch(1), JobEnd::finished);
  arbiter.ended(dispatch(2), JobEnd::finished);
  EXPECT_EQ(arbiter.running(), 0u);
  EXPECT_TRUE(arbiter.uses().empty());
  EXPECT_TRUE(arbiter.admit(fence(1), holder(1), dispatch(2), kStart).ok());
}

}  // namespace
}  // namespace orch::worker
