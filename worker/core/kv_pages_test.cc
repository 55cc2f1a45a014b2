// ENGINE-RULES interface 2: alloc, share, fork, truncate, copy, free; only full pages are shared.
#include "worker/core/kv_pages.h"

#include <gtest/gtest.h>

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

TEST(KvPages, OC_ENGINE_1002_fork_shares_full_pages_and_copies_the_partial_one) {
  KvPagePool pool(4);
  PageTable table;
  ASSERT_TRUE(extend(pool, table, 70));
  const auto forked = fork(pool, table);
  ASSERT_TRUE(forked.has_value());
  EXPECT_EQ(forked->table.pages[0], table.pages[0]);
  EXPECT_EQ(forked->table.pages[1], table.pages[1]);
  EXPECT_NE(forked->table.pages[2], table.pages[2]);
  ASSERT_TRUE(forked->copy.has_value());
  EXPECT_EQ(forked->copy->source, table.pages[2]);
  EXPECT_EQ(forked->copy->target, forked->table.pages[2]);
  EXPECT_FALSE(fork(pool, table).has_value());  // no page left for a copy
  EXPECT_EQ(pool.pages_live(), 4u);             // and nothing was taken
  PageTable second = forked->table;
  free_table(pool, table);
  EXPECT_EQ(pool.pages_live(), 3u);
  free_table(pool, second);
  EXPECT_EQ(pool.pages_live(), 0u);
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
        if (auto forked = fork(pool, table)) target = forked->table;
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

}  // namespace
}  // namespace orch::worker
