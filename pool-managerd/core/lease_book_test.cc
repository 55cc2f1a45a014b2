#include "pool-managerd/core/lease_book.h"

#include <gtest/gtest.h>

#include <map>

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
  LeaseBook book = book_with(4);
  book.resize(kA, 1);
  EXPECT_EQ(book.held(), 4u) << "its holder may use what it was told of";
  book.issue(version(2), kNow);
  book.connection_lost();
  book.resize(kA, 2);
  book.issue(version(3), kNow);
  EXPECT_EQ(book.held(), 4u) << "version 1 may stand at the worker until version 3 is acked";
  book.on_report(version(2), {}, kNow);
  EXPECT_EQ(book.held(), 4u) << "an ack of version 2 comes from a stream that is gone";
  book.on_report(version(3), {}, kNow);
  EXPECT_EQ(book.held(), 2u);
}

TEST(LeaseBook, L6_S3_a_slot_in_the_table_is_told_of_when_the_worker_reports_it_idle) {
  LeaseBook book = book_with(4);
  book.on_report(version(1), {{.id = kA, .running = 4}}, kNow);
  book.resize(kA, 3);
  book.open(kB, kHolder, Secret{}, 1, kRenewal);
  book.issue(version(2), kNow);
  auto told = book.on_report(version(2), {{.id = kA, .running = 4}}, kNow);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].slots, 3u) << "no replacement of what ends";
  EXPECT_EQ(told[1].slots, 0u) << "a lease of size 0 is legal (S5)";
  EXPECT_FALSE(told[1].grew);
  told = book.on_report(version(2), {{.id = kA, .running = 3}}, kNow);
  ASSERT_EQ(told.size(), 1u) << "the table said it ahead: no other one is needed";
  EXPECT_EQ(told[0].lease, kB);
  EXPECT_EQ(told[0].slots, 1u);
  EXPECT_TRUE(told[0].grew);
  EXPECT_FALSE(book.wants_table(kNow));
}

TEST(LeaseBook, L6_a_slot_that_was_taken_before_the_table_came_is_not_told_of) {
  LeaseBook book = book_with(4);
  book.on_report(version(1), {{.id = kA, .running = 3}}, kNow);
  book.resize(kA, 3);
  book.open(kB, kHolder, Secret{}, 1, kRenewal);
  book.issue(version(2), kNow);
  // The first holder was faster than the table.
  const auto told = book.on_report(version(2), {{.id = kA, .running = 4}}, kNow);
  EXPECT_EQ(told.back().slots, 0u);
  EXPECT_EQ(book.held(), 4u);
}

TEST(LeaseBook, L6_whoever_was_to_grow_first_is_told_first) {
  LeaseBook book = book_with(4);
  book.on_report(version(1), {{.id = kA, .running = 4}}, kNow);
  book.resize(kA, 1);
  book.open({.boot = 1, .counter = 9}, kHolder, Secret{}, 1, kRenewal);
  book.open(kB, kHolder, Secret{}, 1, kRenewal);
  book.issue(version(2), kNow);
  book.on_report(version(2), {{.id = kA, .running = 4}}, kNow);
  const auto told = book.on_report(version(2), {{.id = kA, .running = 3}}, kNow);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].lease.counter, 9u);
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
  EXPECT_TRUE(book.on_report(version(2), {}, kNow).empty()) << "what is about to shrink is not promised";
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

// L8: the old boot's last table gave the second lease a slot while the first one's jobs ran; whether its holder was
// told is lost.
TEST(LeaseBook, L8_adopted_leases_are_told_of_nothing_before_an_ack_and_only_of_what_is_idle) {
  LeaseBook book({.boot = 1, .counter = 1}, kTtl, 2);
  LeaseTable table{.version = version(7), .ttl = kTtl, .leases = {}};
  table.leases.push_back({.id = kA, .holder = kHolder, .slots = 1, .secret = {}, .renewal_seq = 5, .stop = false});
  table.leases.push_back({.id = kB, .holder = kHolder, .slots = 1, .secret = {}, .renewal_seq = 3, .stop = false});
  book.adopt(table, {{.id = kA, .running = 2}}, kNow);
  EXPECT_EQ(book.running(), 2u);
  book.renew(kA, kRenewal);
  book.renew(kB, kRenewal);
  EXPECT_TRUE(book.on_report(version(7), {{.id = kA, .running = 2}}, kNow).empty()) << "no ack of this boot yet";
  const LeaseTable next = book.issue({.boot = 2, .counter = 1}, kNow);
  EXPECT_EQ(next.leases[0].renewal_seq, 6u) << "counts on";
  auto told = book.on_report({.boot = 2, .counter = 1}, {{.id = kA, .running = 2}}, kNow);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].slots, 1u);
  EXPECT_EQ(told[1].slots, 0u) << "both slots are in use";
  told = book.on_report({.boot = 2, .counter = 1}, {{.id = kA, .running = 1}}, kNow);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].lease, kB);
  EXPECT_EQ(told[0].slots, 1u);
  book.check_invariants();
}

// It lost slots between its last table and its manager's restart.
TEST(LeaseBook, L8_an_adopted_table_is_cut_to_what_the_worker_declares_now) {
  LeaseBook book({.boot = 1, .counter = 1}, kTtl, 4);
  LeaseTable table{.version = version(7), .ttl = kTtl, .leases = {}};
  table.leases.push_back({.id = kA, .holder = kHolder, .slots = 8, .secret = {}, .renewal_seq = 5, .stop = false});
  book.adopt(table, {{.id = kA, .running = 6}}, kNow);
  book.check_invariants();
  EXPECT_EQ(book.find(kA)->slots, 4u);
  EXPECT_EQ(book.issue({.boot = 2, .counter = 1}, kNow).leases.at(0).slots, 4u);
  EXPECT_EQ(book.held(), 8u) << "the old table may still be the worker's";
}

// Two slots, two leases: the second shrank from 1 to 0, its holder has not heard of it, and the slot went to the first.
class Shrunk : public ::testing::Test {
 protected:
  Shrunk() : book({.boot = 1, .counter = 1}, kTtl, 2) {
    book.open(kA, kHolder, Secret{}, 1, kRenewal);
    book.open(kB, kOther, Secret{}, 1, kRenewal);
    sync(1, {});
    book.resize(kB, 0);
    book.resize(kA, 2);
    sync(2, {});
    EXPECT_EQ(told[kA], 2u);
    EXPECT_EQ(told[kB], 0u);
    number_heard = grants - 2;  // neither of the last two
    book.heard(kOther, kRenewal.link, number_heard, {}, kNow);
    book.resize(kA, 1);
    book.resize(kB, 1);
  }
  // A table, its ack, and the grants that follow.
  LeaseTable sync(std::uint64_t counter, const std::vector<LeaseUse>& uses) {
    LeaseTable table = book.issue(version(counter), kNow);
    for (const auto& each : book.on_report(version(counter), uses, kNow)) {
      told[each.lease] = each.slots;
      book.told(each.lease, {.link = kRenewal.link, .number = ++grants, .slots = each.slots});
    }
    book.check_invariants();
    return table;
  }
  static std::uint32_t slots_of(const LeaseTable& table, LeaseId id) {
    for (const LeaseEntry& entry : table.leases) {
      if (entry.id == id) return entry.slots;
    }
    return 0;
  }

  static constexpr Holder kOther{.orch = OrchId{Uuid{0, 9}}, .boot = 1};
  LeaseBook book;
  std::map<LeaseId, std::uint32_t> told;
  std::uint64_t grants = 0;
  std::uint64_t number_heard = 0;
};

// The first runs two; ahead of their end the second is to have the next slot. The worker would admit its holder on the
// word that it was given before, and the first holder's second slot would be gone.
TEST_F(Shrunk, L6_a_lease_does_not_grow_in_a_table_while_its_holder_may_go_by_an_older_word) {
  EXPECT_EQ(slots_of(sync(3, {{.id = kA, .running = 1}}), kB), 0u);
  EXPECT_EQ(book.held(), 1u) << "the worker admits one of the first by now";
  EXPECT_TRUE(book.wants_table(kNow)) << "now there is room for what the second may believe";
  EXPECT_EQ(slots_of(sync(4, {{.id = kA, .running = 1}}), kB), 1u);
  EXPECT_EQ(told[kB], 1u);
}

TEST_F(Shrunk, L6_while_the_slot_is_in_use_it_waits_for_the_word_to_be_heard) {
  EXPECT_EQ(slots_of(sync(3, {{.id = kA, .running = 2}}), kB), 0u);
  EXPECT_FALSE(book.wants_table(kNow)) << "nothing has changed";
  const LeaseUse under_way{.id = kB, .running = 1};
  book.heard(kOther, kRenewal.link, grants, {&under_way, 1}, kNow);
  EXPECT_FALSE(book.wants_table(kNow)) << "a job of it may be on its way";
  book.heard(kOther, kRenewal.link, grants, {}, kNow);
  EXPECT_TRUE(book.wants_table(kNow));
  EXPECT_EQ(slots_of(sync(4, {{.id = kA, .running = 2}}), kB), 1u) << "decided ahead";
  EXPECT_EQ(told[kB], 0u);
  EXPECT_FALSE(book.wants_table(kNow));
}

TEST_F(Shrunk, L6_a_grant_that_was_heard_on_another_link_frees_nothing) {
  sync(3, {{.id = kA, .running = 2}});
  book.heard(kOther, {2}, grants, {}, kNow);
  EXPECT_FALSE(book.wants_table(kNow));
  book.heard(kHolder, kRenewal.link, grants, {}, kNow);
  EXPECT_FALSE(book.wants_table(kNow)) << "another holder heard it";
}

TEST(LeaseBookDeathTest, OC_LEASE_1001_a_table_beyond_the_declared_slots_is_a_fault) {
  LeaseBook book = book_with(3);
  book.open(kB, kHolder, Secret{}, 2, kRenewal);
  EXPECT_DEATH(book.issue(version(2), kNow), "CHECK failed");
}

}  // namespace
}  // namespace orch::pool
