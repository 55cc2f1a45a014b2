// What constraints hold, counted where memory is asked for: every allocation of this process, with what the allocator
// adds to it. One thread.
#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "common/grammar/limits.h"
#include "worker/grammar/constraint_mask.h"
#include "worker/grammar/constraint_store.h"
#include "worker/grammar/large_constraints_fixture.h"
#include "worker/grammar/vocabulary_fixture.h"

namespace {

std::size_t live = 0;
std::size_t most = 0;  // of live

void* take(std::size_t bytes) {
  void* at = std::malloc(bytes);
  if (at == nullptr) std::abort();
  live += malloc_usable_size(at) + sizeof(std::size_t);
  most = std::max(most, live);
  return at;
}

void give(void* at) {
  if (at != nullptr) live -= malloc_usable_size(at) + sizeof(std::size_t);
  std::free(at);
}

}  // namespace

void* operator new(std::size_t bytes) { return take(bytes); }
void* operator new[](std::size_t bytes) { return take(bytes); }
void operator delete(void* at) noexcept { give(at); }
void operator delete[](void* at) noexcept { give(at); }
void operator delete(void* at, std::size_t) noexcept { give(at); }
void operator delete[](void* at, std::size_t) noexcept { give(at); }

namespace orch::worker {
namespace {

using grammar::Constraint;
using grammar::ConstraintKind;
using testing::large_constraints;
using testing::pieces_of_documents;
using testing::trie_of;

struct Kept {
  explicit Kept(std::shared_ptr<const VocabularyTrie> given) : trie(std::move(given)) {}
  std::shared_ptr<TokenConstraint> get(const Constraint& wanted) {
    if (auto found = store.find(wanted)) return found;
    auto made = TokenConstraint::create(wanted, trie, work);
    return made.ok() ? store.keep(wanted, std::move(made).value()) : nullptr;
  }
  std::shared_ptr<const VocabularyTrie> trie;
  std::shared_ptr<WorkBudget> work = std::make_shared<WorkBudget>(grammar::kWorkBytesMax, kWorkShareMax);
  ConstraintStore store;
};

// Some token that may follow, or the end.
bool write_one(ConstraintMask& mask, Prng& prng) {
  const auto words = mask.allowed();
  const std::uint32_t choices = mask.allowed_count();
  if (choices == 0) return false;
  std::uint64_t skip = prng.below(choices);
  for (TokenId id = 0; id < words.size() * 32; ++id) {
    if ((words[id / 32] >> (id % 32) & 1) == 0 || skip-- > 0) continue;
    return id != testing::kEnd && mask.accept(id);
  }
  return false;
}

std::vector<std::string> letters(std::size_t count) {
  Prng prng(4);
  std::vector<std::string> out = pieces_of_documents(3, 2000);
  for (std::size_t i = 0; i < count; ++i) {
    out.emplace_back();
    while (out.back().size() < 16) out.back() += prng.chance(1, 2) ? 'a' : 'b';
  }
  return out;
}

TEST(ConstraintBytes, OC_GRAMMAR_1035_a_flood_of_constraints_stays_within_the_budget) {
  const auto trie = trie_of(letters(1500));
  Prng prng(1);
  // One runs all the time, beside its like that is alone in the world.
  const Constraint long_one{ConstraintKind::regex, "([ab]*a[ab]{12}[c-z ]?)*"};
  ConstraintMask alone(TokenConstraint::create(long_one, trie).value(), 4000);
  const std::size_t before = live;
  Kept kept(trie);
  ConstraintMask runs(kept.get(long_one), 4000);
  std::size_t most_held = 0;
  std::size_t most_work = 0;
  for (std::size_t number = 0; number < 8; ++number) {
    for (const Constraint& wanted : large_constraints(number)) {
      if (number >= 4 && wanted.kind != ConstraintKind::json_schema) continue;  // they fill the masks' part by then
      const auto constraint = kept.get(wanted);
      ASSERT_NE(constraint, nullptr) << wanted.text.substr(0, 60);
      ConstraintMask mask(constraint, 1000);
      for (int i = 0; i < 3 && write_one(mask, prng); ++i) {
        const std::size_t held = live - before;
        most_held = std::max(most_held, held);
        ASSERT_LE(held, grammar::kCompiledBytesMax + grammar::kWorkBytesMax) << wanted.text.substr(0, 60);
        ASSERT_LE(kept.store.bytes(), grammar::kCompiledBytesMax);
        ASSERT_LE(kept.work->bytes(), grammar::kWorkBytesMax);
        ASSERT_LE(held, kept.store.bytes() + kept.work->bytes() + grammar::kMiB) << "counted less than there is";
      }
    }
    most_work = std::max(most_work, kept.work->bytes());
    const auto expected = alone.allowed();
    const auto got = runs.allowed();
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), got.begin(), got.end())) << number;
    Prng same(number);
    Prng again(number);
    ASSERT_TRUE(write_one(alone, same));
    ASSERT_TRUE(write_one(runs, again));
  }
  RecordProperty("most_work_kib", static_cast<int>(most_work / 1024));
  RecordProperty("most_held_kib", static_cast<int>(most_held / 1024));
  EXPECT_GT(kept.store.bytes(), grammar::kCompiledBytesMax * 9 / 10) << "the flood no longer reaches the budget";
}

TEST(ConstraintBytes, OC_GRAMMAR_1035_compiling_takes_no_more_than_its_part) {
  const auto trie = trie_of({});
  std::size_t worst = 0;
  for (const Constraint& wanted : large_constraints(7)) {
    const std::size_t before = live;
    most = before;
    const auto made = TokenConstraint::create(wanted, trie);
    ASSERT_TRUE(made.ok()) << made.error().where << ": " << made.error().message;
    worst = std::max(worst, most - before);
    EXPECT_LE(most - before, grammar::kCompilingBytesMax) << wanted.text.substr(0, 60);
    const std::size_t held = live - before;
    EXPECT_LE(held, made.value()->compiled_bytes() + made.value()->work_bytes() + 4096) << wanted.text.substr(0, 60);
  }
  RecordProperty("worst_compile_kib", static_cast<int>(worst / 1024));
  EXPECT_GT(worst, grammar::kCompilingBytesMax / 2) << "none is near the limits any more";
}

}  // namespace
}  // namespace orch::worker
