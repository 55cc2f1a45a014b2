// What is known of where other gateways are reached, from several managers that change their minds.
#include "orchestratord/core/other_gateways.h"

#include <gtest/gtest.h>

#include "orchestratord/core/core_testing.h"

namespace orch::gateway {
namespace {

using namespace testing;

const ManagerId kSecond{{0xB0, 2}};
OrchId gateway(std::uint64_t n) { return {{9, n}}; }
std::string where(const OtherGateways& others, const OrchId& orch) {
  const std::string* address = others.address_of(orch);
  return address == nullptr ? "unknown" : *address;
}

TEST(OtherGateways, OC_JOB_1016_addresses_only_and_so_many_of_a_manager) {
  OtherGateways others;
  std::vector<GatewayAddress> told;
  for (std::uint64_t n = 1; n <= kGatewaysKnownMax + 5; ++n) told.push_back({gateway(n), "http://a"});
  others.told(kManager, told);
  EXPECT_EQ(where(others, gateway(kGatewaysKnownMax)), "http://a");
  EXPECT_EQ(where(others, gateway(kGatewaysKnownMax + 1)), "unknown");
  others.told(kManager, {{gateway(1), "http://b"}, {gateway(2), "javascript:x"}});
  EXPECT_EQ(where(others, gateway(1)), "http://b");
  EXPECT_EQ(where(others, gateway(2)), "unknown");
}

TEST(OtherGateways, OC_JOB_1016_gateways_come_and_go_for_as_long_as_this_one_lives) {
  OtherGateways others;
  for (std::uint64_t n = 1; n <= 3 * kGatewaysKnownMax; ++n) {
    others.told(kManager, {{gateway(n), "http://a"}});
    EXPECT_EQ(where(others, gateway(n)), "http://a") << n;
  }
  EXPECT_EQ(where(others, gateway(1)), "unknown");
}

TEST(OtherGateways, OC_JOB_1016_an_address_that_is_taken_back_leads_nowhere) {
  OtherGateways others;
  others.told(kManager, {{gateway(1), "http://a"}, {gateway(2), "http://b"}});
  others.told(kSecond, {{gateway(1), "http://a"}});
  others.told(kManager, {{gateway(2), "http://b"}});
  EXPECT_EQ(where(others, gateway(1)), "http://a") << "the other manager has not heard of it yet";
  others.told(kSecond, {});
  EXPECT_EQ(where(others, gateway(1)), "unknown");
  EXPECT_EQ(where(others, gateway(2)), "http://b");
  EXPECT_EQ(others.managers(), 1u);
}

TEST(OtherGateways, OC_JOB_1016_what_was_news_last_holds) {
  OtherGateways others;
  others.told(kSecond, {{gateway(1), "http://old"}});
  others.told(kManager, {{gateway(1), "http://new"}});
  others.told(kSecond, {{gateway(1), "http://old"}, {gateway(2), "http://c"}});  // it speaks for the sake of another
  EXPECT_EQ(where(others, gateway(1)), "http://new");
}

TEST(OtherGateways, OC_JOB_1016_a_managers_word_goes_when_it_is_forgotten) {
  Bench bench;
  bench.manager_up();
  bench.step(GatewaysTold{kLink, {{gateway(1), "http://a"}}});
  bench.step(ManagerDown{kLink});
  bench.advance(bench.core.config().limits.manager_forget - ms(1));
  EXPECT_EQ(where(bench.core.other_gateways(), gateway(1)), "http://a");
  bench.advance(ms(1));
  EXPECT_EQ(where(bench.core.other_gateways(), gateway(1)), "unknown");
}

}  // namespace
}  // namespace orch::gateway
