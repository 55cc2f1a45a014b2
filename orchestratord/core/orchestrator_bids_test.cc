// What a gateway bids for: work that may run there, and no other (S1).
#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"
#include "orchestratord/core/orchestrator.h"

namespace orch::gateway {
namespace {

using namespace testing;

// Two pools with a replica each, of which nothing is granted.
struct TwoPools : Bench {
  TwoPools() {
    ReplicaView second = ready_replica("r2");
    second.pool_id = "p2";
    second.model_digest = "sha256:def";
    manager_up({ready_replica("r1"), second});
  }
  void waits(std::uint64_t job, const std::string& tenant, const std::string& pin) {
    JobSpec spec = spec_of(job);
    spec.tenant = tenant;
    spec.wish.pin = pin;
    EXPECT_FALSE(refusal(submit(spec)));
  }
  // The last bid for the pool.
  PoolBid bid(const std::string& pool) {
    const auto updates = all_of<SendUpdate>(advance(ms(5000)));
    if (!updates.empty()) {
      for (const PoolBid& each : updates.back().bids) {
        if (each.pool_id == pool) return each;
      }
    }
    ADD_FAILURE() << "no bid for " << pool;
    return {};
  }
};

TEST(Bids, OC_SLOT_S1_a_bid_names_only_work_that_may_run_in_its_pool) {
  TwoPools gateway;
  gateway.waits(1, "pinned", "p2");
  gateway.waits(2, "free", "");
  gateway.waits(3, "pinned", "");
  const PoolBid first = gateway.bid("p1");
  EXPECT_EQ(first.waiting, 2u);
  ASSERT_EQ(first.tenants.size(), 2u);
  EXPECT_EQ(first.tenants[0].waiting, 1u);
  EXPECT_EQ(first.tenants[1].waiting, 1u);
  const PoolBid second = gateway.bid("p2");
  EXPECT_EQ(second.waiting, 3u);
  ASSERT_EQ(second.tenants.size(), 2u);
  EXPECT_EQ(second.tenants[0].waiting + second.tenants[1].waiting, 3u);
}

TEST(Bids, OC_SLOT_S1_a_tenant_that_may_run_nowhere_in_a_pool_does_not_lead_its_bid) {
  TwoPools gateway;
  gateway.waits(1, "pinned", "p2");
  EXPECT_EQ(gateway.bid("p1").waiting, 0u);
  EXPECT_TRUE(gateway.bid("p1").tenants.empty());
  EXPECT_EQ(gateway.bid("p2").waiting, 1u);
  EXPECT_EQ(gateway.bid("p2").tenants.size(), 1u);
}

}  // namespace
}  // namespace orch::gateway
