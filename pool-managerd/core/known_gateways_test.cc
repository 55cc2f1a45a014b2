// Who is told which addresses, and when.
#include "pool-managerd/core/known_gateways.h"

#include <gtest/gtest.h>

#include "pool-managerd/core/world_fixture.h"

namespace orch::pool {
namespace {

const OrchId kOne{{1, 1}};
const OrchId kTwo{{2, 2}};

// The links that heard of so many.
std::vector<std::uint64_t> links_told(World& world, const Event& event, std::size_t addresses) {
  std::vector<std::uint64_t> out;
  world.log.clear();
  world.step(event);
  for (const Effect& effect : world.log) {
    const auto* told = std::get_if<SendGateways>(&effect);
    if (told != nullptr && told->gateways.size() == addresses) out.push_back(told->link.value);
  }
  return out;
}

TEST(KnownGateways, OC_JOB_1016_everybody_hears_of_a_new_address_and_one_that_attaches_of_all) {
  World world{one_replica()};
  EXPECT_EQ(links_told(world, AttachOpened{LinkId{1}, {kOne, 1}, "http://one"}, 1), (std::vector<std::uint64_t>{1}));
  EXPECT_EQ(links_told(world, AttachOpened{LinkId{2}, {kTwo, 1}, "http://two"}, 2), (std::vector<std::uint64_t>{1, 2}));
  world.step(AttachClosed{LinkId{1}});  // its address stays
  EXPECT_EQ(links_told(world, AttachOpened{LinkId{3}, {kTwo, 1}, "http://two"}, 2), (std::vector<std::uint64_t>{3}))
      << "nothing new: who is there knows it";
  EXPECT_EQ(links_told(world, AttachOpened{LinkId{4}, {kOne, 2}, ""}, 1), (std::vector<std::uint64_t>{3, 4}))
      << "it tells none any more";
}

TEST(KnownGateways, OC_JOB_1016_the_one_that_left_longest_ago_makes_room) {
  World world{one_replica()};
  std::uint64_t link = 1;
  const OrchId stays{{9, 1}};
  world.step(AttachOpened{LinkId{link++}, {stays, 1}, "http://a"});
  for (std::uint64_t n = 2; n <= kGatewaysKnownMax; ++n, ++link) {
    world.step(AttachOpened{LinkId{link}, {OrchId{{9, n}}, 1}, "http://a"});
    world.step(AttachClosed{LinkId{link}});
  }
  // Back again and gone, so the third left longest ago.
  world.step(AttachOpened{LinkId{link}, {OrchId{{9, 2}}, 2}, "http://a"});
  world.step(AttachClosed{LinkId{link++}});
  world.log.clear();
  world.step(AttachOpened{LinkId{link}, {OrchId{{9, 1000}}, 1}, "http://a"});
  std::vector<GatewayAddress> all;
  for (const Effect& effect : world.log) {
    if (const auto* told = std::get_if<SendGateways>(&effect)) all = told->gateways;
  }
  ASSERT_EQ(all.size(), kGatewaysKnownMax);
  EXPECT_EQ(all[0].orch, stays);
  EXPECT_EQ(all[1].orch, (OrchId{{9, 2}}));
  EXPECT_EQ(all[2].orch, (OrchId{{9, 4}}));
  EXPECT_EQ(all.back().orch, (OrchId{{9, 1000}}));
}

}  // namespace
}  // namespace orch::pool
