#include "worker/grammar/token_constraint.h"

#include <gtest/gtest.h>

#include "common/grammar/limits.h"
#include "worker/grammar/vocabulary_fixture.h"

namespace orch::worker {
namespace {

using grammar::ConstraintKind;
using testing::kByteZero;
using testing::kControl;
using testing::kEnd;
using testing::pieces_of_documents;
using testing::trie_of;

bool has(const TokenBits& bits, TokenId id) { return (bits.words[id / 32] >> (id % 32) & 1) != 0; }

std::shared_ptr<TokenConstraint> constraint(ConstraintKind kind, std::string text,
                                            std::shared_ptr<const VocabularyTrie> trie) {
  auto made = TokenConstraint::create({kind, std::move(text)}, std::move(trie));
  EXPECT_TRUE(made.ok()) << made.error().where << ": " << made.error().message;
  return made.value();
}

TEST(VocabularyTrie, OC_GRAMMAR_1020_holds_every_token_that_writes_something_once) {
  const auto trie = trie_of(pieces_of_documents(1, 500));
  std::vector<int> seen(trie->vocabulary(), 0);
  std::string way(trie->depth_max(), '\0');
  for (std::size_t i = 0; i < trie->size(); ++i) {
    const auto& node = trie->nodes()[i];
    way[node.depth] = static_cast<char>(node.byte);
    ASSERT_GT(node.behind, i);
    for (std::uint32_t k = node.tokens_begin; k < trie->nodes()[i + 1].tokens_begin; ++k) {
      const TokenId id = trie->tokens()[k];
      ++seen[id];
      EXPECT_EQ(trie->bytes_of(id), way.substr(0, node.depth + std::size_t{1}));
    }
  }
  for (TokenId id = 0; id < trie->vocabulary(); ++id) EXPECT_EQ(seen[id], trie->bytes_of(id).empty() ? 0 : 1) << id;
  EXPECT_EQ(trie->end_tokens(), std::vector<TokenId>{kEnd});
  EXPECT_TRUE(trie->bytes_of(kControl).empty());
  EXPECT_TRUE(trie->single_bytes().all());
}

// The mask of the walk over the trie is the one of reading each token alone.
TEST(TokenConstraint, OC_GRAMMAR_1020_allows_exactly_the_tokens_that_can_follow) {
  const auto trie = trie_of(pieces_of_documents(2, 800));
  const auto made = constraint(ConstraintKind::json_schema,
                               R"({"type":"object","properties":{"name":{"type":"string","maxLength":4},)"
                               R"("tags":{"type":"array","items":{"type":"string"}}},"required":["name"]})",
                               trie);
  for (const std::string_view text :
       {"", "{", "{\n  \"name\": \"", R"({"name": "A)", R"({"name": "Ada)", R"({"name": "Ada",)", R"({"name": "\u00)",
        "{\"name\":\"\xC3", R"({"name": "", "tags": ["a", "b)", R"({"name": "", "tags": [])", R"({"name": ""})"}) {
    const auto state = made->state_of(text);
    const auto bits = made->bits(state);
    std::uint32_t count = 0;
    for (TokenId id = 0; id < trie->vocabulary(); ++id) {
      const bool allowed = id == kEnd
                               ? made->accepts(state)
                               : !trie->bytes_of(id).empty() && made->step(state, id) != grammar::Automaton::kDead;
      EXPECT_EQ(has(*bits, id), allowed) << text << " then " << trie->bytes_of(id);
      count += allowed ? 1 : 0;
    }
    EXPECT_EQ(bits->count, count);
    EXPECT_GT(count, 0U) << text;
  }
}

TEST(TokenConstraint, OC_GRAMMAR_1021_ends_only_where_the_text_is_complete) {
  const auto made = constraint(ConstraintKind::regex, "ab?", trie_of({"ab", "abc"}));
  EXPECT_FALSE(has(*made->bits(made->state_of("")), kEnd));
  EXPECT_TRUE(has(*made->bits(made->state_of("a")), kEnd));
  const auto full = made->bits(made->state_of("ab"));
  EXPECT_TRUE(has(*full, kEnd));
  EXPECT_EQ(full->count, 1U);
}

TEST(TokenConstraint, OC_GRAMMAR_1023_keeps_masks_by_state) {
  const auto made = constraint(ConstraintKind::regex, "[a-z]*", trie_of({"ab", "abc"}));
  const auto first = made->bits(made->state_of("a"));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(made->bits(made->state_of("qrst")), first);
  EXPECT_EQ(made->masks_made(), 1U);
}

TEST(TokenConstraint, OC_GRAMMAR_1035_keeps_masks_of_a_bounded_number_of_bytes) {
  std::vector<std::string> longer{"ab"};
  for (int i = 0; i < 60000; ++i) longer.push_back("0" + std::to_string(i));
  const auto made = constraint(ConstraintKind::regex, "[a-z]{0,1000}", trie_of(longer));
  std::string text;
  for (int i = 0; i < 1000; ++i, text += 'a') {
    made->bits(made->state_of(text));
    ASSERT_LE(made->masks_bytes(), grammar::kMasksBytesMax) << i;
  }
  const auto made_before = made->masks_made();
  made->bits(made->state_of("a"));  // dropped as the least recently used
  EXPECT_EQ(made->masks_made(), made_before + 1);
  made->bits(made->state_of("a"));
  EXPECT_EQ(made->masks_made(), made_before + 1);
}

// A walk that forgets the states on its way finds the same tokens. The state of this expression is the last 16 letters.
TEST(TokenConstraint, OC_GRAMMAR_1022_a_walk_that_forgets_gives_the_same_bits) {
  Prng prng(9);
  const auto letters = [&](std::size_t size) {
    std::string out;
    while (out.size() < size) out += prng.chance(1, 2) ? 'a' : 'b';
    return out;
  };
  std::vector<std::string> longer;
  for (int i = 0; i < 3000; ++i) longer.push_back(letters(16));
  const auto trie = trie_of(longer);
  const std::string regex = "[ab]*a[ab]{15}";
  const auto worn = constraint(ConstraintKind::regex, regex, trie);
  const auto epoch = worn->epoch();
  for (int i = 0; i < 6; ++i) {
    const std::string text = letters(40);
    const auto bits = worn->bits(worn->state_of(text));
    const auto fresh = constraint(ConstraintKind::regex, regex, trie);
    EXPECT_EQ(fresh->bits(fresh->state_of(text))->words, bits->words);
    EXPECT_GE(bits->count, longer.size() / 2);
  }
  EXPECT_GT(worn->epoch(), epoch) << "the case no longer reaches the limit";
}

TEST(TokenConstraint, OC_GRAMMAR_1031_a_walk_that_is_cut_short_keeps_single_bytes) {
  std::string regex = "(";
  for (int i = 0; i < 400; ++i) regex += "(a|b|.)*" + std::string(1, static_cast<char>('a' + i % 26)) + "|";
  regex += "x)*";
  std::vector<std::string> longer;
  for (const std::string& piece : pieces_of_documents(4, 4000)) longer.push_back(piece);
  const auto trie = trie_of(longer);
  const auto made = constraint(ConstraintKind::regex, regex, trie);
  const auto bits = made->bits(made->state_of("ab"));
  EXPECT_TRUE(bits->is_cut);
  for (const char byte : std::string("az{ ")) {
    EXPECT_TRUE(has(*bits, kByteZero + static_cast<std::uint8_t>(byte)));
  }
  const auto again = constraint(ConstraintKind::regex, regex, trie);
  EXPECT_EQ(again->bits(again->state_of("ab"))->words, bits->words);
}

TEST(TokenConstraint, OC_GRAMMAR_1021_refuses_what_the_vocabulary_cannot_write) {
  VocabularyData data;
  data.model = "gpt2";
  data.pre = "smollm";
  data.tokens = {"<|im_end|>", "a", "b"};
  data.types = {3, 1, 1};
  data.eos = 0;
  auto tokenizer = Tokenizer::create(data);
  ASSERT_TRUE(tokenizer.ok());
  const auto trie = std::make_shared<const VocabularyTrie>(tokenizer.value());
  EXPECT_TRUE(TokenConstraint::create({ConstraintKind::regex, "a(b|c)"}, trie).ok());
  EXPECT_FALSE(TokenConstraint::create({ConstraintKind::regex, "ac"}, trie).ok());
}

}  // namespace
}  // namespace orch::worker
