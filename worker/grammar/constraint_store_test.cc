#include "worker/grammar/constraint_store.h"

#include <gtest/gtest.h>

#include "worker/grammar/constraint_mask.h"
#include "worker/grammar/vocabulary_fixture.h"

namespace orch::worker {
namespace {

using grammar::Constraint;
using grammar::ConstraintKind;
using testing::trie_of;

Constraint numbered(std::size_t number) { return {ConstraintKind::regex, "a{4}" + std::to_string(number) + "[xy]*"}; }

std::shared_ptr<TokenConstraint> made_of(const Constraint& wanted, const std::shared_ptr<WorkBudget>& work = nullptr) {
  static const auto kTrie = trie_of({"xy", "yx", "xxx"});
  return TokenConstraint::create(wanted, kTrie, work).value();
}

// Bytes of one such constraint in a store.
std::size_t bytes_of_one() {
  ConstraintStore store;
  store.keep(numbered(1), made_of(numbered(1)));
  return store.bytes();
}

TEST(ConstraintStore, OC_GRAMMAR_1023_keeps_by_text_and_drops_the_longest_unused) {
  ConstraintStore store(bytes_of_one() * 7 / 2);
  for (std::size_t i = 1; i <= 3; ++i) store.keep(numbered(i), made_of(numbered(i)));
  EXPECT_EQ(store.size(), 3U);
  const auto first = store.find(numbered(1));
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(store.keep(numbered(1), made_of(numbered(1))), first) << "the one that is there";
  EXPECT_NE(store.keep(numbered(4), made_of(numbered(4))), nullptr);
  EXPECT_EQ(store.size(), 3U);
  EXPECT_EQ(store.find(numbered(2)), nullptr);
  EXPECT_EQ(store.find(numbered(1)), first);
  EXPECT_NE(store.find(numbered(3)), nullptr);
}

TEST(ConstraintStore, OC_GRAMMAR_1035_what_is_in_use_stays_and_may_leave_no_room) {
  ConstraintStore store(bytes_of_one() * 7 / 2);
  std::vector<std::shared_ptr<TokenConstraint>> in_use;
  for (std::size_t i = 1; i <= 3; ++i) in_use.push_back(store.keep(numbered(i), made_of(numbered(i))));
  EXPECT_EQ(store.keep(numbered(4), made_of(numbered(4))), nullptr);
  EXPECT_EQ(store.size(), 3U) << "nothing was dropped for what found no room";
  in_use.erase(in_use.begin() + 1);
  EXPECT_NE(store.keep(numbered(4), made_of(numbered(4))), nullptr);
  EXPECT_EQ(store.find(numbered(2)), nullptr);
  EXPECT_EQ(store.find(numbered(1)), in_use[0]);
}

// Room for the share of the one that works and half a constraint's work beside it.
TEST(WorkBudget, OC_GRAMMAR_1035_the_longest_unused_loses_its_work_and_goes_on_as_if_it_had_not) {
  const std::size_t one = [] {
    const auto constraint = made_of(numbered(1));
    constraint->bits(constraint->state_of("aaaa1"));
    return constraint->work_bytes();
  }();
  const auto work = std::make_shared<WorkBudget>(one * 5 / 2, one);
  std::vector<ConstraintMask> masks;
  std::vector<std::shared_ptr<TokenConstraint>> constraints;
  for (std::size_t i = 0; i < 4; ++i) {
    constraints.push_back(made_of(numbered(i), work));
    masks.emplace_back(constraints.back(), 100);
  }
  ConstraintMask alone(made_of(numbered(0)), 100);
  const std::uint64_t epoch = constraints[0]->epoch();
  for (int round = 0; round < 12; ++round) {
    for (ConstraintMask& mask : masks) mask.allowed();
    EXPECT_LE(work->bytes(), one * 5 / 2);
    const auto expected = alone.allowed();
    const auto got = masks[0].allowed();
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), got.begin(), got.end())) << round;
    const TokenId next = testing::kByteZero + static_cast<TokenId>(static_cast<unsigned char>("aaaa0xyxyxyx"[round]));
    for (std::size_t i = 0; i < masks.size(); ++i) {
      const TokenId own = round == 4 ? next + static_cast<TokenId>(i) : next;
      ASSERT_TRUE(masks[i].accept(own)) << round << " of " << i;
    }
    ASSERT_TRUE(alone.accept(next));
  }
  EXPECT_GT(constraints[0]->epoch(), epoch) << "none lost anything";
}

TEST(WorkBudget, OC_GRAMMAR_1035_forgets_those_that_have_ended) {
  const auto work = std::make_shared<WorkBudget>(1, 1);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto constraint = made_of(numbered(i), work);
    constraint->state_of("aaaa");
    EXPECT_EQ(work->bytes(), constraint->work_bytes()) << i;
  }
}

}  // namespace
}  // namespace orch::worker
