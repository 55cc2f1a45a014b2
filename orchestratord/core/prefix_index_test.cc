// Chains of prompt beginnings and who is believed to hold them.
#include "orchestratord/core/prefix_index.h"

#include <gtest/gtest.h>

#include "common/base/prng.h"

namespace orch::gateway {
namespace {

const ReplicaKey kA{ManagerId{{0xC0, 1}}, "a"};
const ReplicaKey kB{ManagerId{{0xC0, 1}}, "b"};
constexpr Incarnation kLife{1, 1};
constexpr std::size_t kPlenty = 1000;

Prompt chat(std::string system, std::string user) {
  Prompt out;
  out.messages = {{"system", std::move(system)}, {"user", std::move(user)}};
  return out;
}

std::string told(const PrefixIndex& index, const std::string& tenant, const PrefixChain& chain) {
  std::string out;
  for (const PrefixIndex::Match& match : index.match(tenant, chain))
    out += match.replica.replica_id + std::to_string(match.chunks) + " ";
  EXPECT_EQ(index.check(), "");
  return out;
}

TEST(PrefixChain, OC_CORE_1018_prompts_share_a_chain_for_as_long_as_they_begin_alike) {
  const std::string system(2000, 's');
  const PrefixChain one = prefix_chain(chat(system, std::string(600, 'x')));
  const PrefixChain two = prefix_chain(chat(system, std::string(600, 'y')));
  ASSERT_EQ(one.size(), 5u);  // 2,616 bytes with the roles
  EXPECT_TRUE(std::equal(one.begin(), one.begin() + 3, two.begin()));
  EXPECT_NE(one[3], two[3]);
  EXPECT_NE(one[4], two[4]) << "every name stands for all before it";
  EXPECT_EQ(prefix_chain(chat(system, std::string(600, 'x'))), one);
}

TEST(PrefixChain, OC_CORE_1018_no_text_imitates_the_border_of_a_message) {
  Prompt plain;
  plain.text = "system" + std::string(1000, 's');
  EXPECT_NE(prefix_chain(plain)[0], prefix_chain(chat(std::string(1000, 's'), ""))[0]);
  Prompt moved;
  moved.messages = {{"systems", std::string(999, 's')}};
  EXPECT_NE(prefix_chain(moved)[0], prefix_chain(chat(std::string(1000, 's'), ""))[0]);
}

TEST(PrefixChain, OC_CORE_1018_is_bounded_and_names_no_part_of_a_chunk) {
  EXPECT_TRUE(prefix_chain(chat(std::string(490, 's'), "")).empty());
  EXPECT_EQ(prefix_chain(chat(std::string(1'000'000, 's'), "")).size(), kPrefixChunksMax);
}

TEST(PrefixIndex, OC_CORE_1018_tells_how_much_each_replica_has) {
  PrefixIndex index;
  index.holds("t", {1, 2, 3}, kA, kLife, kPlenty);
  index.holds("t", {1, 2, 9, 10}, kB, kLife, kPlenty);
  EXPECT_EQ(told(index, "t", {1, 2, 3, 4}), "a3 b2 ");
  EXPECT_EQ(told(index, "t", {1, 2, 9, 10}), "a2 b4 ");
  EXPECT_EQ(told(index, "t", {7, 2, 3}), "") << "what stands behind a difference is not shared";
}

TEST(PrefixIndex, OC_CORE_1018_never_crosses_tenants) {
  PrefixIndex index;
  index.holds("t", {1, 2, 3}, kA, kLife, kPlenty);
  EXPECT_EQ(told(index, "u", {1, 2, 3}), "");
  index.holds("u", {1, 2, 3}, kB, kLife, kPlenty);
  EXPECT_EQ(told(index, "t", {1, 2, 3}), "a3 ");
  index.found_only("u", {1, 2, 3}, kB, 0);
  EXPECT_EQ(told(index, "t", {1, 2, 3}), "a3 ");
  EXPECT_EQ(told(index, "u", {1, 2, 3}), "");
}

TEST(PrefixIndex, OC_CORE_1018_a_new_life_has_nothing_and_late_news_of_the_old_one_is_none) {
  PrefixIndex index;
  index.holds("t", {1, 2}, kA, kLife, kPlenty);
  index.forget_before(kA, kLife);
  EXPECT_EQ(told(index, "t", {1, 2}), "a2 ") << "the same life";
  index.forget_before(kA, {1, 2});
  EXPECT_EQ(told(index, "t", {1, 2}), "");
  index.holds("t", {5}, kA, {1, 2}, kPlenty);
  index.holds("t", {1, 2}, kA, kLife, kPlenty);
  EXPECT_EQ(told(index, "t", {1, 2}), "");
  index.holds("t", {6}, kA, {1, 3}, kPlenty);
  EXPECT_EQ(told(index, "t", {5}), "") << "of the life before";
}

TEST(PrefixIndex, OC_CORE_1018_a_replica_holds_no_more_than_its_memory_and_ends_go_first) {
  PrefixIndex index;
  index.holds("t", {1, 2, 3}, kA, kLife, 4);
  index.holds("t", {7, 8}, kA, kLife, 4);
  EXPECT_EQ(told(index, "t", {1, 2, 3}), "a2 ");
  EXPECT_EQ(told(index, "t", {7, 8}), "a2 ");
  index.holds("t", {1}, kA, kLife, 4);  // used again
  index.holds("t", {9}, kA, kLife, 4);
  EXPECT_EQ(told(index, "t", {1, 2, 3}), "a1 ");
  index.holds("t", {20, 21, 22, 23, 24, 25}, kA, kLife, 4);
  EXPECT_EQ(told(index, "t", {20, 21, 22, 23, 24, 25}), "a4 ");
  EXPECT_EQ(told(index, "t", {1}), "");
}

TEST(PrefixIndex, OC_CORE_1018_a_miss_tells_of_all_that_was_used_longer_ago) {
  PrefixIndex index;
  index.holds("t", {1, 2}, kA, kLife, kPlenty);
  index.holds("u", {3, 4}, kA, kLife, kPlenty);
  index.holds("t", {5, 6}, kA, kLife, kPlenty);
  index.holds("t", {1, 2}, kB, kLife, kPlenty);
  index.found_only("u", {3, 4}, kA, 1);
  EXPECT_EQ(told(index, "u", {3, 4}), "a1 ") << "what it found it has";
  EXPECT_EQ(told(index, "t", {1, 2}), "b2 ");
  EXPECT_EQ(told(index, "t", {5, 6}), "a2 ") << "used since";
}

TEST(PrefixIndex, OC_CORE_1018_is_bounded_whatever_comes) {
  PrefixIndex index;
  Prng prng(5);
  for (int round = 0; round < 3000; ++round) {
    PrefixChain chain(1 + prng.below(128));
    std::uint64_t name = prng.below(60);
    for (std::uint64_t& each : chain) each = name = name * 1000 + prng.below(2) + 1;
    const ReplicaKey replica{ManagerId{{0xC0, prng.below(40)}}, "r"};
    const std::string tenant = "t" + std::to_string(prng.below(300));
    const Incarnation inc{1, 1 + static_cast<std::uint64_t>(round / 1500)};
    index.holds(tenant, chain, replica, inc, prng.below(100) == 0 ? prng.below(100) : 4000);
    if (prng.below(500) == 0) index.found_only(tenant, chain, replica, prng.below(chain.size()));
    if (prng.below(200) == 0) index.forget_before(replica, {1, 9});
    ASSERT_LE(index.size(), PrefixIndex::kEntriesMax);
    if (round % 100 == 0) ASSERT_EQ(index.check(), "");
  }
  EXPECT_GT(index.size(), PrefixIndex::kEntriesMax / 2) << "or the bound was not tried";
}

}  // namespace
}  // namespace orch::gateway
