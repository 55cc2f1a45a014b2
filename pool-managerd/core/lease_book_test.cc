#include "pool-managerd/core/lease_book.h"

#include <gtest/gtest.h>

namespace orch::pool {
namespace {

constexpr Duration kTtl = Duration::seconds(15);
constexpr LeaseId kA{.boot = 1, .counter = 1};
constexpr LeaseId kB{.boot = 1, .counter = 2};
constexpr Holder kHolder{};
constexpr Renewal kRenewal{.link = {1}, .update_seq = 1};
constexpr Instant kNow{1};

TableVersion version(std::uint64_t counter) { return {.boot = 1, .counter = counter}; }

// Four slots; lease A has `slots` of them, acked in version 1.
LeaseBook book_with(std::uint32_t slots) {
  LeaseBook book({.boot = 1, .counter = 1}, kTtl, 4);
  book.open(kA, kHolder, Secret{}, slots, kRenewal);
  book.issue(version(1), kNow);
  EXPECT_EQ(book.on_report(version(1), {}, kNow).size(), 1u);
  return book;
}

TEST(LeaseBook, L6_a_report_from_before_the_last_ack_frees_nothing) {
  LeaseBook book = book_with(4);
  book.close(kA, false);
  book.issue(version(2), kNow);
  book.on_report(version(2), {{.id = kA, .running = 3}}, kNow);
  EXPECT_EQ(book.held(), 3u);
  book.on_report(version(1), {}, kNow);
  EXPECT_EQ(book.held(), 3u);
  book.on_report(version(2), {{.id = kA, .running = 1}}, kNow);
  EXPECT_EQ(book.free(), 3u);
  book.on_report(version(2), {}, kNow);
  EXPECT_EQ(book.free(), 4u);
  EXPECT_TRUE(book.is_idle());
}

TEST(LeaseBook, L6_every_table_that_may_have_been_applied_counts) {
  LeaseBook book({.boot = 1, .counter = 1}, kTtl, 4);
  book.open(kA, kHolder, Secret{}, 4, kRenewal);
  book.issue(version(1), kNow);
  book.connection_lost();
  book.resize(kA, 1);
  EXPECT_EQ(book.held(), 4u);
  book.issue(version(2), kNow);
  EXPECT_EQ(book.held(), 4u) << "version 1 may stand at the worker until version 2 is acked";
  book.on_report(version(1), {}, kNow);
  EXPECT_EQ(book.held(), 4u) << "and an ack of version 1 does not say that version 2 will not follow";
  book.on_report(version(2), {}, kNow);
  EXPECT_EQ(book.held(), 1u);
}

TEST(LeaseBook, L2_a_new_stream_begins_with_the_table) {
  LeaseBook book = book_with(2);
  EXPECT_FALSE(book.wants_table(kNow));
  book.connection_lost();
  EXPECT_TRUE(book.wants_table(kNow));
  EXPECT_EQ(book.issue(version(2), kNow).leases.size(), 1u);
  EXPECT_FALSE(book.wants_table(kNow));
  EXPECT_TRUE(book.wants_table(kNow + kTtl / 3)) << "an ack that does not come";
}

TEST(LeaseBook, L2_nothing_is_announced_twice_or_after_its_close) {
  LeaseBook book = book_with(2);
  EXPECT_TRUE(book.on_report(version(1), {}, kNow).empty());
  book.resize(kA, 3);
  book.issue(version(2), kNow);
  book.resize(kA, 1);
  const auto announced = book.on_report(version(2), {}, kNow);
  ASSERT_EQ(announced.size(), 1u);
  EXPECT_EQ(announced[0].slots, 1u) << "what is about to shrink is not promised";
  book.renew(kA, kRenewal);
  book.issue(version(3), kNow);
  book.close(kA, false);
  EXPECT_TRUE(book.on_report(version(3), {}, kNow).empty());
}

TEST(LeaseBook, L7_a_stopped_lease_stays_in_the_table_until_its_jobs_have_ended) {
  LeaseBook book = book_with(4);
  book.close(kA, true);
  const LeaseTable table = book.issue(version(2), kNow);
  ASSERT_EQ(table.leases.size(), 1u);
  EXPECT_TRUE(table.leases[0].stop);
  EXPECT_EQ(table.leases[0].slots, 0u);
  book.on_report(version(2), {{.id = kA, .running = 1}}, kNow);
  EXPECT_NE(book.find(kA), nullptr);
  book.on_report(version(2), {}, kNow);
  EXPECT_EQ(book.find(kA), nullptr);
  EXPECT_TRUE(book.issue(version(3), kNow).leases.empty());
}

TEST(LeaseBook, L9_fewer_declared_slots_take_idle_ones_first) {
  LeaseBook book({.boot = 1, .counter = 1}, kTtl, 4);
  book.open(kA, kHolder, Secret{}, 2, kRenewal);
  book.open(kB, kHolder, Secret{}, 2, kRenewal);
  book.issue(version(1), kNow);
  book.on_report(version(1), {{.id = kA, .running = 2}}, kNow);
  book.set_declared(2);
  EXPECT_EQ(book.find(kA)->slots, 2u);
  EXPECT_EQ(book.find(kB)->slots, 0u);
  book.set_declared(1);
  EXPECT_EQ(book.find(kA)->slots, 1u);
  book.check_invariants();
}

TEST(LeaseBookDeathTest, L6_growth_into_held_slots_is_a_fault) {
  LeaseBook book = book_with(3);
  book.close(kA, false);
  EXPECT_EQ(book.free(), 1u);
  EXPECT_DEATH(book.open(kB, kHolder, Secret{}, 2, kRenewal), "CHECK failed");
}

}  // namespace
}  // namespace orch::pool
