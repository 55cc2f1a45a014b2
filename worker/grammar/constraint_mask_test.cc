#include "worker/grammar/constraint_mask.h"

#include <gtest/gtest.h>

#include "worker/grammar/vocabulary_fixture.h"

namespace orch::worker {
namespace {

using grammar::ConstraintKind;
using testing::kByteZero;
using testing::kControl;
using testing::kEnd;
using testing::pieces_of_documents;
using testing::trie_of;

constexpr std::string_view kSchema =
    R"({"type":"object","properties":{"id":{"type":"integer"},"tree":{"$ref":"#/$defs/t"}},"required":["id","tree"],)"
    R"("$defs":{"t":{"type":"array","items":{"anyOf":[{"$ref":"#/$defs/t"},{"type":"string"}]}}}})";

std::shared_ptr<TokenConstraint> tree_constraint(std::uint64_t seed) {
  auto made = TokenConstraint::create({ConstraintKind::json_schema, std::string(kSchema)},
                                      trie_of(pieces_of_documents(seed, 400)));
  EXPECT_TRUE(made.ok());
  return made.value();
}

std::vector<TokenId> allowed_of(TokenMask& mask) {
  std::vector<TokenId> out;
  const auto words = mask.allowed();
  for (std::uint32_t id = 0; id < words.size() * 32; ++id) {
    if ((words[id / 32] >> (id % 32) & 1) != 0) out.push_back(id);
  }
  return out;
}

// Draws until an end token, or until the tokens are used up.
std::vector<TokenId> random_walk(TokenMask& mask, Prng& prng, std::uint32_t tokens_max) {
  std::vector<TokenId> out;
  while (out.size() < tokens_max) {
    const auto choices = allowed_of(mask);
    if (choices.empty()) {
      ADD_FAILURE() << "nothing may follow";
      break;
    }
    const TokenId id = choices[prng.below(choices.size())];
    if (id == kEnd) break;
    EXPECT_TRUE(mask.accept(id));
    out.push_back(id);
  }
  return out;
}

TEST(ConstraintMask, OC_GRAMMAR_1022_replayed_tokens_give_the_mask_of_the_first_run) {
  const auto shared = tree_constraint(5);
  Prng prng(11);
  for (int round = 0; round < 20; ++round) {
    ConstraintMask mask(shared, 120);
    const std::vector<TokenId> tokens = random_walk(mask, prng, 60);
    const auto after = allowed_of(mask);
    // Replayed by another engine, at any point, with or without looking at masks on the way.
    ConstraintMask replayed(tree_constraint(5), 120);
    std::unique_ptr<TokenMask> cloned;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (i == tokens.size() / 2) cloned = replayed.clone();
      if (i % 3 == 0) replayed.allowed();
      ASSERT_TRUE(replayed.accept(tokens[i]));
    }
    EXPECT_EQ(allowed_of(replayed), after);
    for (std::size_t i = tokens.size() / 2; cloned && i < tokens.size(); ++i) ASSERT_TRUE(cloned->accept(tokens[i]));
    if (cloned) {
      EXPECT_EQ(allowed_of(*cloned), after);
    }
  }
}

TEST(ConstraintMask, OC_GRAMMAR_1024_every_text_ends_within_its_tokens) {
  const auto shared = tree_constraint(6);
  Prng prng(12);
  const std::uint32_t shortest = shared->bytes_to_end(shared->state_of(""));
  for (std::uint32_t tokens_max = shortest; tokens_max < shortest + 60; ++tokens_max) {
    ConstraintMask mask(shared, tokens_max);
    random_walk(mask, prng, tokens_max);
    EXPECT_TRUE(mask.is_complete()) << tokens_max;
  }
}

TEST(ConstraintMask, OC_GRAMMAR_1024_too_few_tokens_for_any_text_change_nothing) {
  const auto shared = tree_constraint(6);
  ConstraintMask few(shared, 3);
  ConstraintMask many(shared, 3000);
  EXPECT_EQ(allowed_of(few), allowed_of(many));
}

TEST(ConstraintMask, OC_GRAMMAR_1021_a_token_that_cannot_follow_is_told) {
  const auto shared = tree_constraint(7);
  for (const TokenId wrong : {kByteZero + '[', kControl, TokenId{9'999'999}}) {
    ConstraintMask mask(shared, 10);
    ASSERT_TRUE(mask.accept(kByteZero + '{'));
    EXPECT_FALSE(mask.accept(wrong));
    EXPECT_FALSE(mask.accept(kByteZero + '"')) << "unusable from then on";
    EXPECT_TRUE(allowed_of(mask).empty());
    EXPECT_FALSE(mask.is_complete());
  }
}

TEST(ConstraintMask, OC_GRAMMAR_1022_sequences_that_share_a_constraint_do_not_disturb_each_other) {
  const auto shared = tree_constraint(8);
  ConstraintMask a(shared, 200);
  ConstraintMask alone(tree_constraint(8), 200);
  Prng prng(3);
  for (int i = 0; i < 30; ++i) {
    ConstraintMask other(shared, 100);
    random_walk(other, prng, 20);
    const auto choices = allowed_of(a);
    ASSERT_EQ(choices, allowed_of(alone));
    const TokenId id = choices[prng.below(choices.size())];
    if (id == kEnd) break;
    ASSERT_TRUE(a.accept(id));
    ASSERT_TRUE(alone.accept(id));
  }
}

}  // namespace
}  // namespace orch::worker
