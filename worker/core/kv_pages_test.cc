// ENGINE-RULES interface 2: alloc, share, truncate, free, and what of a page is found; only full pages are shared.
#include "worker/core/kv_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "common/base/prng.h"

namespace orch::worker {
namespace {

PageKey key_of(std::uint64_t n) {
  PageKey key{};
  for (std::size_t i = 0; i < 8; ++i) key[i] = static_cast<std::uint8_t>(n >> (8 * i));
  return key;
}

TEST(KvPages, OC_ENGINE_1002_extend_is_all_or_nothing) {
  KvPagePool pool(3);
  PageTable a;
  EXPECT_TRUE(extend(pool, a, 33));
  EXPECT_EQ(a.pages.size(), 2u);
  PageTable b;
  EXPECT_FALSE(extend(pool, b, 33));
  EXPECT_TRUE(b.pages.empty());
  EXPECT_TRUE(extend(pool, b, 32));
  EXPECT_EQ(pool.pages_available(), 0u);
  free_table(pool, a);
  EXPECT_EQ(pool.pages_available(), 2u);
}

TEST(KvPages, OC_ENGINE_1002_truncate_frees_only_whole_pages) {
  KvPagePool pool(4);
  PageTable table;
  ASSERT_TRUE(extend(pool, table, 100));
  truncate(pool, table, 33);
  EXPECT_EQ(table.pages.size(), 2u);
  EXPECT_EQ(table.length, 33u);
  EXPECT_EQ(pool.pages_available(), 2u);
}

TEST(KvPages, OC_ENGINE_1002_a_published_page_is_found_until_its_place_is_needed) {
  KvPagePool pool(2);
  const PageId page = *pool.alloc();
  pool.publish(page, key_of(1));
  pool.release(page);
  EXPECT_EQ(pool.pages_available(), 2u);
  EXPECT_EQ(pool.acquire(key_of(1)), std::optional<PageId>(page));
  pool.release(page);
  const PageId other = *pool.alloc();
  EXPECT_NE(other, page);  // free pages go first
  EXPECT_EQ(pool.alloc(), std::optional<PageId>(page));
  EXPECT_EQ(pool.acquire(key_of(1)), std::nullopt);  // reused: forgotten
  EXPECT_EQ(pool.alloc(), std::nullopt);
}

TEST(KvPages, OC_ENGINE_1002_random_use_keeps_the_counts) {
  Prng prng(3);
  KvPagePool pool(40);
  std::vector<PageTable> tables(6);
  for (int round = 0; round < 5000; ++round) {
    PageTable& table = tables[prng.below(tables.size())];
    switch (prng.below(4)) {
      case 0:
        static_cast<void>(extend(pool, table, table.length + static_cast<std::uint32_t>(prng.below(80))));
        break;
      case 1:
        truncate(pool, table, static_cast<std::uint32_t>(prng.below(table.length + 1)));
        break;
      case 2:
        free_table(pool, table);
        break;
      default: {
        PageTable& target = tables[prng.below(tables.size())];
        if (&target == &table) break;
        free_table(pool, target);
        for (std::uint32_t i = 0; i < table.length / kPageTokens; ++i) {
          pool.share(table.pages[i]);
          target.pages.push_back(table.pages[i]);
          target.length += kPageTokens;
        }
      }
    }
    std::map<PageId, int> held;
    for (const PageTable& t : tables) {
      ASSERT_EQ(t.pages.size(), (t.length + 31) / 32);
      for (const PageId page : t.pages) ++held[page];
    }
    ASSERT_EQ(held.size(), pool.pages_live());
  }
}

TEST(KvPages, OC_ENGINE_1027_the_beginning_of_a_page_is_found_until_its_place_is_needed) {
  KvPagePool pool(2);
  const PageId page = *pool.alloc();
  const std::vector<std::uint32_t> said = {4, 5, 6};
  pool.describe(page, key_of(1), said);
  pool.release(page);
  const std::vector<std::uint32_t> wanted = {4, 5, 9, 9};
  EXPECT_FALSE(pool.acquire_likest(key_of(2), wanted, 1).has_value()) << "behind other pages";
  EXPECT_FALSE(pool.acquire_likest(key_of(1), wanted, 3).has_value()) << "less than was asked for";
  const auto found = pool.acquire_likest(key_of(1), wanted, 1);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->page, page);
  EXPECT_EQ(found->tokens, 2u);
  EXPECT_EQ(*pool.alloc(), 1u);
  EXPECT_FALSE(pool.alloc().has_value()) << "it is held";
  pool.release(page);
  EXPECT_EQ(*pool.alloc(), page);
  EXPECT_FALSE(pool.acquire_likest(key_of(1), wanted, 1).has_value()) << "reused: forgotten";
}

TEST(KvPages, OC_ENGINE_1027_of_all_pages_the_one_with_the_longest_common_beginning) {
  Prng prng(5);
  KvPagePool pool(24);
  const auto some = [&] {
    std::vector<std::uint32_t> out(1 + prng.below(kPageTokens));
    for (std::uint32_t& each : out) each = static_cast<std::uint32_t>(prng.below(10) == 0 ? 1 : 0);
    return out;
  };
  const auto common = [](const std::vector<std::uint32_t>& a, const std::vector<std::uint32_t>& b) {
    return static_cast<std::uint32_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  };
  std::map<PageId, std::pair<std::uint64_t, std::vector<std::uint32_t>>> said;
  for (int round = 0; round < 4000; ++round) {
    const std::uint64_t before = prng.below(3);
    const std::vector<std::uint32_t> tokens = some();
    if (prng.below(3) == 0) {
      const PageId page = *pool.alloc();  // of a page that can be found already
      said.erase(page);
      const bool told = std::any_of(said.begin(), said.end(),
                                    [&](const auto& each) { return each.second == std::pair{before, tokens}; });
      pool.describe(page, key_of(before), tokens);
      if (!told) said[page] = {before, tokens};
      pool.release(page);
      continue;
    }
    std::uint32_t best = 0;
    for (const auto& [page, what] : said) best = std::max(best, what.first == before ? common(tokens, what.second) : 0);
    const auto found = pool.acquire_likest(key_of(before), tokens, 1);
    ASSERT_EQ(found ? found->tokens : 0, best);
    if (!found) continue;
    ASSERT_EQ(common(tokens, said.at(found->page).second), best);
    ASSERT_EQ(said.at(found->page).first, before);
    pool.release(found->page);
  }
}

}  // namespace
}  // namespace orch::worker
