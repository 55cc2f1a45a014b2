// For each rule of the lease history one run that keeps it and one that breaks it.
#include "sim/lease_history.h"

#include <gtest/gtest.h>

namespace orch::sim {
namespace {

constexpr LeaseId kA{.boot = 1, .counter = 1};
constexpr LeaseId kB{.boot = 1, .counter = 2};
constexpr Holder kHolder{.orch = OrchId{Uuid{9, 1}}, .boot = 1};
constexpr Holder kOther{.orch = OrchId{Uuid{9, 2}}, .boot = 1};
constexpr Instant kNow{100};
constexpr Instant kEnd{200};

DispatchId attempt(std::uint64_t job, std::uint32_t number = 1) { return {JobId{Uuid{1, job}}, number}; }
LeaseEntry entry(LeaseId id, const Holder& holder, std::uint32_t slots) {
  return {.id = id, .holder = holder, .slots = slots, .secret = {}, .renewal_seq = 1, .stop = false};
}

// A worker of two slots; both leases have one.
class LeaseHistoryTest : public ::testing::Test {
 protected:
  LeaseHistoryTest() {
    history.born(worker, "r", 2);
    apply({entry(kA, kHolder, 1), entry(kB, kOther, 1)});
  }
  void apply(const std::vector<LeaseEntry>& leases) { apply(++version, leases); }
  void apply(std::uint64_t counter, const std::vector<LeaseEntry>& leases) {
    const LeaseTable table{.version = {1, counter}, .ttl = Duration::seconds(15), .leases = leases};
    history.applied(worker, table, std::vector<Instant>(leases.size(), kEnd));
  }
  void use(std::uint64_t job, LeaseId lease = kA, const Holder& holder = kHolder, Instant at = kNow) {
    history.used(worker, lease, holder, attempt(job), at);
  }
  void release(std::uint64_t job) { history.released(worker, attempt(job)); }
  void tell(LeaseId lease, std::uint32_t slots) { history.told(worker, lease, slots, ++number); }
  void hear(LeaseId lease, std::uint64_t grant) {
    history.granted(worker, lease, lease == kA ? kHolder : kOther, 0, grant);
  }
  void expect_fault(const std::string& text) {
    const std::string fault = history.check();
    EXPECT_NE(fault.find(text), std::string::npos) << "'" << fault << "' does not say '" << text << "'";
  }
  void expect_sound() { EXPECT_EQ(history.check(), ""); }

  const WorkerKey worker{ManagerId{Uuid{5, 5}}, {1, 1}};
  LeaseHistory history;
  std::uint64_t version = 0;
  std::uint64_t number = 0;
};

TEST_F(LeaseHistoryTest, L2_tables_come_in_the_life_of_their_worker) {
  expect_sound();
  history.died(worker);
  expect_sound();
  apply({});
  expect_fault("outside the worker's life");
}

TEST_F(LeaseHistoryTest, L2_versions_grow) {
  apply(2, {});
  expect_sound();
  apply(2, {});
  expect_fault("versions went back");
}

TEST_F(LeaseHistoryTest, L1_a_lease_keeps_its_holder) {
  apply({entry(kA, kHolder, 2)});
  expect_sound();
  apply({entry(kA, kOther, 2)});
  expect_fault("changed its holder");
}

TEST_F(LeaseHistoryTest, L2_a_table_fits_into_what_is_declared) {
  apply({entry(kA, kHolder, 0), entry(kB, kOther, 2)});
  expect_sound();
  apply({entry(kA, kHolder, 1), entry(kB, kOther, 2)});
  expect_fault("promised more than was declared");
}

TEST_F(LeaseHistoryTest, L3_a_use_needs_a_table) {
  use(1);
  expect_sound();
  LeaseHistory bare;
  bare.born(worker, "r", 2);
  bare.used(worker, kA, kHolder, attempt(1), kNow);
  EXPECT_NE(bare.check().find("before the first table"), std::string::npos) << bare.check();
}

TEST_F(LeaseHistoryTest, L3_a_use_is_of_a_lease_in_force) {
  use(1);
  apply({entry(kB, kOther, 1)});
  expect_sound();
  use(2);
  expect_fault("not in the table in force");
}

TEST_F(LeaseHistoryTest, L3_a_use_is_by_the_holder) {
  use(1, kB, kOther);
  expect_sound();
  use(2, kA, kOther);
  expect_fault("another than the holder");
}

TEST_F(LeaseHistoryTest, L4_a_use_begins_before_the_workers_end) {
  use(1, kA, kHolder, kEnd - Duration{1});
  expect_sound();
  use(2, kB, kOther, kEnd);
  expect_fault("after the worker's end");
}

TEST_F(LeaseHistoryTest, L3_uses_of_a_lease_fit_into_it) {
  use(1);
  release(1);
  use(2);
  expect_sound();
  use(3);
  expect_fault("more uses of a lease than it has slots");
}

TEST_F(LeaseHistoryTest, L3_uses_fit_into_what_is_declared) {
  use(1);
  apply({entry(kA, kHolder, 0), entry(kB, kOther, 2)});
  use(2, kB, kOther);
  expect_sound();
  use(3, kB, kOther);  // within its lease; the first one's job still runs
  expect_fault("more uses at once than the worker declared");
}

TEST_F(LeaseHistoryTest, L6_uses_end_with_their_worker) {
  use(1);
  history.died(worker);
  history.born({worker.manager, {1, 2}}, "r", 2);
  expect_sound();
  history.released(worker, attempt(1));  // late news changes nothing
  expect_sound();
}

TEST_F(LeaseHistoryTest, L6_lives_of_a_replica_do_not_overlap) {
  history.born({worker.manager, {1, 2}}, "another", 2);
  expect_sound();
  history.born({worker.manager, {1, 3}}, "r", 2);
  expect_fault("overlap");
}

TEST_F(LeaseHistoryTest, M1_an_attempt_is_admitted_once) {
  use(1);
  release(1);
  history.used(worker, kA, kHolder, attempt(1, 2), kNow);
  expect_sound();
  history.used(worker, kB, kOther, attempt(9), kNow);
  release(9);
  history.used(worker, kB, kOther, attempt(9), kNow);
  expect_fault("admitted twice");
}

TEST_F(LeaseHistoryTest, M1_an_attempt_is_admitted_once_over_all_lives_of_its_gateway) {
  use(1);
  release(1);
  history.used(worker, kB, kOther, attempt(1), kNow);
  expect_fault("admitted twice");
}

TEST_F(LeaseHistoryTest, L2_a_holder_hears_of_what_its_worker_has_applied) {
  history.granted(worker, kA, kHolder, 1, 1);
  expect_sound();
  history.granted(worker, kA, kHolder, 2, 2);
  expect_fault("granted what its worker had not applied");
}

TEST_F(LeaseHistoryTest, L2_a_holder_hears_of_no_lease_of_another) {
  history.granted(worker, kB, kOther, 1, 1);
  expect_sound();
  history.granted(worker, kA, kOther, 1, 2);
  expect_fault("granted what its worker had not applied");
}

// --- L6: what holders may use ---

TEST_F(LeaseHistoryTest, L6_a_slot_is_told_of_when_it_is_idle) {
  tell(kA, 1);
  tell(kB, 1);
  use(1);
  apply({entry(kA, kHolder, 0), entry(kB, kOther, 2)});
  release(1);
  tell(kB, 2);
  expect_sound();
}

TEST_F(LeaseHistoryTest, L6_and_not_while_it_is_in_use) {
  tell(kA, 1);
  tell(kB, 1);
  use(1);
  apply({entry(kA, kHolder, 0), entry(kB, kOther, 2)});
  tell(kB, 2);
  expect_fault("lease 2 was told of 2 slots while holders may use 1:1 2:2 of 2");
}

TEST_F(LeaseHistoryTest, L6_and_not_while_another_that_was_told_of_it_is_still_admitted) {
  apply({entry(kA, kHolder, 2), entry(kB, kOther, 0)});
  tell(kA, 2);
  expect_sound();
  tell(kB, 0);
  expect_sound();
  apply({entry(kA, kHolder, 1), entry(kB, kOther, 1)});
  tell(kB, 1);
  expect_sound();  // the worker admits one of the first's two
  tell(kA, 1);
  use(1, kB, kOther);
  apply({entry(kA, kHolder, 2), entry(kB, kOther, 0)});
  expect_fault("a table was applied while holders may use 1:2 2:1 of 2");  // the first has not heard of the 1
}

TEST_F(LeaseHistoryTest, L6_a_word_that_was_heard_ends_the_one_before) {
  apply({entry(kA, kHolder, 2), entry(kB, kOther, 0)});
  tell(kA, 2);
  hear(kA, 1);
  apply({entry(kA, kHolder, 1), entry(kB, kOther, 1)});
  tell(kA, 1);
  tell(kB, 1);
  use(1, kB, kOther);
  hear(kA, 2);
  apply({entry(kA, kHolder, 2), entry(kB, kOther, 0)});
  expect_sound();
}

TEST_F(LeaseHistoryTest, L6_a_job_on_its_way_counts_until_it_is_decided) {
  const auto shrink_and_grow = [&](LeaseHistory& of) {
    history = of;
    apply({entry(kA, kHolder, 0), entry(kB, kOther, 2)});
    tell(kA, 0);
    hear(kA, number);
    tell(kB, 2);
    use(7, kB, kOther);
    use(8, kB, kOther);
  };
  tell(kA, 1);
  hear(kA, 1);
  history.sent(worker, kA, attempt(1), 1);
  LeaseHistory on_its_way = history;
  LeaseHistory refused = history;
  refused.refused(worker, attempt(1), Outcome::STALE_LEASE);
  LeaseHistory given_up = history;
  given_up.given_up(attempt(1));
  shrink_and_grow(on_its_way);
  apply({entry(kA, kHolder, 1), entry(kB, kOther, 1)});
  expect_fault("may use 1:1 2:2 of 2");
  for (LeaseHistory* decided : {&refused, &given_up}) {
    shrink_and_grow(*decided);
    apply({entry(kA, kHolder, 1), entry(kB, kOther, 1)});
    expect_sound();
  }
}

TEST_F(LeaseHistoryTest, L6_a_holder_finds_the_slot_that_it_was_told_of) {
  tell(kA, 1);
  use(1);
  history.sent(worker, kA, attempt(2), 1);
  history.refused(worker, attempt(2), Outcome::SLOT_BUSY);
  expect_sound();  // it has what it was told of
  release(1);
  history.sent(worker, kA, attempt(3), 1);
  history.refused(worker, attempt(3), Outcome::NO_PAGES);
  expect_sound();
  history.sent(worker, kA, attempt(4), 1);
  history.refused(worker, attempt(4), Outcome::SLOT_BUSY);
  expect_fault("refused a slot that it was told of");
}

TEST_F(LeaseHistoryTest, L6_a_refusal_beyond_the_table_in_force_is_right) {
  tell(kA, 1);
  apply({entry(kA, kHolder, 0), entry(kB, kOther, 2)});
  history.sent(worker, kA, attempt(1), 1);
  history.refused(worker, attempt(1), Outcome::SLOT_BUSY);
  expect_sound();
}

}  // namespace
}  // namespace orch::sim
