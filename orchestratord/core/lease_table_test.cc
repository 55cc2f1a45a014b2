#include "orchestratord/core/lease_table.h"

#include <gtest/gtest.h>

namespace orch::gateway {
namespace {

const LeaseKey kKey{ManagerId{Uuid{1, 1}}, LeaseId{1, 1}};

LeaseGranted grant_of(std::uint32_t slots) {
  LeaseGranted grant;
  grant.lease = kKey.lease;
  grant.replica_id = "r";
  grant.inc = {1, 1};
  grant.slots = slots;
  grant.ttl = Duration::seconds(15);
  return grant;
}

TEST(LeaseTable, L3_busy_again_and_again_means_shrunk_unheard_until_the_next_grant) {
  const Limits limits;
  LeaseTable table(limits, Mutation::none);
  const Instant sent{1};
  Instant now = sent;
  ASSERT_TRUE(table.apply(kKey, grant_of(2), "unix:/w", sent, now));
  table.take_slot(kKey);
  for (std::uint32_t i = 0; i < limits.busy_in_a_row_max; ++i) {
    EXPECT_EQ(table.find(kKey)->slots, 2u);
    now = now + limits.busy_pause_max;
    EXPECT_TRUE(table.find(kKey)->usable(now));
    table.busy(kKey, now);
  }
  now = now + limits.busy_pause_max;
  EXPECT_FALSE(table.find(kKey)->usable(now));
  // A resize that counts from the same update is news all the same.
  ASSERT_TRUE(table.apply(kKey, grant_of(2), "unix:/w", sent, now));
  EXPECT_TRUE(table.find(kKey)->usable(now));
}

TEST(LeaseTable, L6_a_smaller_size_holds_whatever_it_counts_from) {
  LeaseTable table(Limits{}, Mutation::none);
  const Instant now{1};
  ASSERT_TRUE(table.apply(kKey, grant_of(2), "unix:/w", now, now));
  table.shrink(kKey, 1);
  EXPECT_EQ(table.find(kKey)->slots, 1u);
  table.shrink(kKey, 2);
  EXPECT_EQ(table.find(kKey)->slots, 1u) << "never grows";
}

TEST(LeaseTable, S5_a_lease_of_size_0_is_held_and_admits_nothing) {
  LeaseTable table(Limits{}, Mutation::none);
  ASSERT_TRUE(table.apply(kKey, grant_of(0), "unix:/w", Instant{1}, Instant{1}));
  EXPECT_TRUE(table.find(kKey)->live(Instant{1}));
  EXPECT_FALSE(table.find(kKey)->usable(Instant{1}));
  EXPECT_EQ(table.renewable(kKey.manager).size(), 1u);
}

}  // namespace
}  // namespace orch::gateway
