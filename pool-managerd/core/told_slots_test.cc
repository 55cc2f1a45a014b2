#include "pool-managerd/core/told_slots.h"

#include <gtest/gtest.h>

namespace orch::pool {
namespace {

constexpr LinkId kLink{1};
constexpr LinkId kNext{2};

TEST(ToldSlots, L6_the_older_word_counts_until_the_later_one_was_heard) {
  ToldSlots told;
  told.tell({kLink, 1, 3});
  told.tell({kLink, 2, 1});
  EXPECT_EQ(told.most(), 3u) << "neither was heard";
  told.hear(kLink, 1, 0);
  EXPECT_EQ(told.most(), 3u);
  told.hear(kLink, 2, 0);
  EXPECT_EQ(told.most(), 1u);
  told.tell({kLink, 4, 2});
  EXPECT_EQ(told.most(), 2u) << "it may hear of more at any moment";
}

TEST(ToldSlots, L6_jobs_under_way_beyond_the_size_count) {
  ToldSlots told;
  told.tell({kLink, 1, 2});
  told.tell({kLink, 2, 0});
  told.hear(kLink, 2, 2);
  EXPECT_EQ(told.most(), 2u) << "they may still be on their way to the worker";
  told.hear(kLink, 2, 1);
  EXPECT_EQ(told.most(), 1u);
  told.hear(kLink, 2, 0);
  EXPECT_EQ(told.most(), 0u);
}

TEST(ToldSlots, L7_words_of_a_link_that_broke_count_until_one_of_the_next_link_was_heard) {
  ToldSlots told;
  told.tell({kLink, 1, 1});
  told.hear(kLink, 1, 0);
  told.tell({kLink, 2, 3});
  told.tell({kLink, 3, 2});
  told.hear(kNext, 9, 0);
  EXPECT_EQ(told.most(), 3u) << "numbers of another link say nothing";
  told.tell({kNext, 1, 1});
  EXPECT_EQ(told.most(), 3u);
  told.hear(kNext, 1, 0);
  EXPECT_EQ(told.most(), 1u);
}

TEST(ToldSlots, L8_an_earlier_boot_may_have_said_anything) {
  ToldSlots told;
  told.assume_anything();
  told.tell({kLink, 1, 1});
  EXPECT_GT(told.most(), 1'000'000u);
  told.hear(kLink, 1, 0);
  EXPECT_EQ(told.most(), 1u);
}

TEST(ToldSlots, a_holder_that_hears_nothing_is_remembered_in_bounded_space) {
  ToldSlots told;
  for (std::uint32_t i = 1; i <= 1000; ++i) told.tell({kLink, i, 1001 - i});
  EXPECT_EQ(told.unheard().size(), ToldSlots::kUnheardMax);
  EXPECT_EQ(told.most(), 1000u);
  told.hear(kLink, 1000, 0);
  EXPECT_EQ(told.most(), 1u);
}

}  // namespace
}  // namespace orch::pool
