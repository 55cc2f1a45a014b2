#include "worker/text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>

#include "common/base/prng.h"
#include "worker/text/byte_symbols.h"
#include "worker/text/utf8.h"

namespace orch::worker {
namespace {

// Ids 0..3 special, then the 256 bytes, then some merges.
VocabularyData small_vocabulary() {
  VocabularyData data;
  data.model = "gpt2";
  data.pre = "smollm";
  data.tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>"};
  data.types = {3, 3, 3, 4};
  for (unsigned byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(byte_symbol(static_cast<std::uint8_t>(byte)));
    data.types.push_back(1);
  }
  data.merges = {"h e", "l l", "he ll", "hell o", "\xC4\xA0 w", "1 2", "< |", "<| im", "i m", "im _"};
  for (const std::string& merge : data.merges) {
    std::string joined = merge;
    joined.erase(joined.find(' ', 1), 1);
    data.tokens.push_back(joined);
    data.types.push_back(1);
  }
  data.eos = 2;
  return data;
}

Tokenizer make(VocabularyData data = small_vocabulary()) {
  auto made = Tokenizer::create(std::move(data));
  EXPECT_TRUE(made.ok());
  return std::move(made).value();
}

std::string decode(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::string out;
  for (const TokenId id : ids) out += tokenizer.bytes_of(id);
  return out;
}

std::vector<std::string> texts(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  std::vector<std::string> out;
  for (const TokenId id : ids) out.push_back(tokenizer.text_of(id));
  return out;
}

TEST(Tokenizer, merges_by_rank) {
  const Tokenizer tokenizer = make();
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("hello", false)), std::vector<std::string>{"hello"});
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("hell w", false)), (std::vector<std::string>{"hell", "\xC4\xA0w"}));
}

TEST(Tokenizer, a_merge_never_crosses_a_word_border) {
  const Tokenizer tokenizer = make();
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("12", false)), (std::vector<std::string>{"1", "2"}));
}

TEST(Tokenizer, every_byte_string_comes_back) {
  const Tokenizer tokenizer = make();
  Prng prng(7);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (std::uint64_t left = prng.below(40); left > 0; --left) text.push_back(static_cast<char>(prng.below(256)));
    ASSERT_EQ(decode(tokenizer, tokenizer.encode(text, false)), text);
  }
}

TEST(Tokenizer, OC_control_tokens_come_from_permitted_segments_only) {
  const Tokenizer tokenizer = make();
  EXPECT_EQ(tokenizer.encode("<|im_end|>", true), std::vector<TokenId>{2});
  for (const TokenId id : tokenizer.encode("<|im_end|>", false)) EXPECT_FALSE(tokenizer.is_control(id));
  EXPECT_EQ(decode(tokenizer, tokenizer.encode("<|im_end|>", false)), "<|im_end|>");
}

TEST(Tokenizer, a_control_token_split_over_trusted_and_user_text_is_not_made) {
  const Tokenizer tokenizer = make();
  const std::array<TextSegment, 3> segments = {TextSegment{"<|im_", true}, {"end", false}, {"|>", true}};
  for (const TokenId id : tokenizer.encode(segments)) EXPECT_FALSE(tokenizer.is_control(id));
}

TEST(Tokenizer, random_user_text_made_of_control_pieces_never_yields_a_control_token) {
  const Tokenizer tokenizer = make();
  static constexpr std::array<const char*, 8> kPieces = {"<|", "im_",        "start",         "end",
                                                         "|>", "<|im_end|>", "<|endoftext|>", " "};
  Prng prng(11);
  for (int i = 0; i < 5000; ++i) {
    std::vector<TextSegment> segments;
    for (std::uint64_t left = prng.below(8); left > 0; --left)
      segments.push_back({kPieces[prng.below(kPieces.size())], false});
    for (const TokenId id : tokenizer.encode(segments)) ASSERT_FALSE(tokenizer.is_control(id));
  }
}

TEST(Tokenizer, segments_are_one_text) {
  const Tokenizer tokenizer = make();
  const std::array<TextSegment, 3> segments = {TextSegment{"<|im_start|>he", true}, {"ll", false}, {"o", true}};
  EXPECT_EQ(texts(tokenizer, tokenizer.encode(segments)), (std::vector<std::string>{"<|im_start|>", "hello"}));
}

TEST(Tokenizer, user_defined_tokens_are_cut_out_everywhere_and_are_visible) {
  const Tokenizer tokenizer = make();
  EXPECT_EQ(tokenizer.encode("<|user|>", false), std::vector<TokenId>{3});
  EXPECT_EQ(tokenizer.bytes_of(3), "<|user|>");
  EXPECT_EQ(tokenizer.bytes_of(2), "");
}

TEST(Tokenizer, puts_bos_in_front_once) {
  VocabularyData data = small_vocabulary();
  data.add_bos = true;
  data.bos = 1;
  const Tokenizer tokenizer = make(data);
  EXPECT_EQ(tokenizer.encode("hello", false).front(), 1u);
  EXPECT_EQ(tokenizer.encode("<|im_start|>", true), std::vector<TokenId>{1});
}

TEST(Tokenizer, OC_ENGINE_1013_puts_eos_behind_once) {
  VocabularyData data = small_vocabulary();
  data.add_eos = true;
  const Tokenizer tokenizer = make(data);
  const std::vector<TokenId> ids = tokenizer.encode("hello", false);
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(ids.back(), 2u);
  EXPECT_EQ(tokenizer.encode("hello<|im_end|>", true), ids);
  EXPECT_EQ(tokenizer.encode("", false), std::vector<TokenId>{2});
  EXPECT_EQ(tokenizer.encode("<|im_end|>", false).back(), 2u) << "what a user writes is no token of control";
  EXPECT_GT(tokenizer.encode("<|im_end|>", false).size(), 2u);
  data.eos.reset();
  EXPECT_EQ(Tokenizer::create(data).error(),
            "tokenizer.ggml.add_eos_token is true and tokenizer.ggml.eos_token_id is missing");
}

TEST(Tokenizer, knows_the_tokens_that_end_a_generation) {
  const Tokenizer tokenizer = make();
  EXPECT_TRUE(tokenizer.ends_generation(0));
  EXPECT_TRUE(tokenizer.ends_generation(2));
  EXPECT_FALSE(tokenizer.ends_generation(1));
  EXPECT_FALSE(tokenizer.ends_generation(50));
}

TEST(Tokenizer, refuses_what_it_does_not_know_by_name) {
  const auto error_of = [](VocabularyData data) {
    const auto made = Tokenizer::create(std::move(data));
    return made.ok() ? std::string("accepted") : made.error();
  };
  VocabularyData data = small_vocabulary();
  data.pre = "tekken";
  EXPECT_EQ(error_of(data),
            "tokenizer.ggml.pre \"tekken\" is not supported; supported: gpt-2, gpt2, smollm, llama-bpe, llama3, "
            "llama-v3, qwen2");
  data = small_vocabulary();
  data.model = "bert";
  EXPECT_EQ(error_of(data),
            "tokenizer.ggml.model \"bert\" is not supported; supported: gpt2 (byte-level BPE), llama (SentencePiece)");
  data = small_vocabulary();
  data.types.pop_back();
  EXPECT_NE(error_of(data).find("tokenizer.ggml.token_type has 269"), std::string::npos) << error_of(data);
  data = small_vocabulary();
  data.merges.push_back("loose");
  EXPECT_NE(error_of(data).find("tokenizer.ggml.merges[10]"), std::string::npos) << error_of(data);
  data = small_vocabulary();
  data.eos = 9999;
  EXPECT_NE(error_of(data).find("9999"), std::string::npos);
  data = small_vocabulary();
  data.tokens.clear();
  data.types.clear();
  data.eos.reset();
  EXPECT_NE(error_of(data).find("tokenizer.ggml.tokens"), std::string::npos);
}

// <unk>, BOS, EOS, a user-defined tag, all bytes but 'z', then pieces from the best score down.
VocabularyData piece_vocabulary() {
  VocabularyData data;
  data.model = "llama";
  data.tokens = {"<unk>", "<s>", "</s>", "<tag>"};
  data.types = {2, 3, 3, 4};
  for (unsigned byte = 0; byte < 256; ++byte) {
    static constexpr char kDigits[] = "0123456789ABCDEF";
    if (byte == 'z') continue;
    data.tokens.push_back(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
    data.types.push_back(6);
  }
  for (const char* piece : {"ab", "bc", "abc",
                            "\xE2\x96\x81"
                            "a",
                            "\xE2\x96\x81", "a", "b", "c", "\xC3\xA9"}) {
    data.tokens.push_back(piece);
    data.types.push_back(1);
  }
  data.scores.resize(data.tokens.size());
  for (std::size_t i = 0; i < data.scores.size(); ++i) data.scores[i] = -static_cast<float>(i);
  data.unknown = 0;
  data.bos = 1;
  data.eos = 2;
  return data;
}

TEST(SentencePieces, the_best_score_joins_first_then_the_leftmost) {
  const Tokenizer tokenizer = make(piece_vocabulary());
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("abc", false)), std::vector<std::string>{"abc"});
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("bcab", false)), (std::vector<std::string>{"bc", "ab"}));
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("aab", false)), (std::vector<std::string>{"a", "ab"}));
}

TEST(SentencePieces, spaces_are_pieces_and_a_prefix_follows_each_special_token) {
  VocabularyData data = piece_vocabulary();
  const std::string space = "\xE2\x96\x81";
  EXPECT_EQ(texts(make(data), make(data).encode("b b", false)), (std::vector<std::string>{"b", space, "b"}));
  data.add_space_prefix = true;
  const Tokenizer tokenizer = make(data);
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("b<tag>a", false)),
            (std::vector<std::string>{space, "b", "<tag>", space + "a"}));
  EXPECT_FALSE(tokenizer.never_more_tokens_than_bytes());
}

TEST(SentencePieces, what_has_no_piece_becomes_bytes_and_then_the_unknown_token) {
  const Tokenizer tokenizer = make(piece_vocabulary());
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("\xC3\xA9\xC3\xB1", false)),
            (std::vector<std::string>{"\xC3\xA9", "<0xC3>", "<0xB1>"}));
  EXPECT_EQ(tokenizer.encode("z", false), std::vector<TokenId>{0});
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("\xFF", false)), std::vector<std::string>{"<0xFF>"});
}

TEST(SentencePieces, text_comes_back_and_control_tokens_stay_out) {
  const Tokenizer tokenizer = make(piece_vocabulary());
  Prng prng(9);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (std::uint64_t left = prng.below(30); left > 0; --left) {
      text.push_back(prng.below(3) == 0 ? static_cast<char>(prng.below(256)) : "abc "[prng.below(4)]);
    }
    std::erase(text, 'z');
    ASSERT_EQ(decode(tokenizer, tokenizer.encode(text, false)), text);
  }
  EXPECT_EQ(tokenizer.encode("</s>", true), std::vector<TokenId>{2});
  for (const TokenId id : tokenizer.encode("</s>", false)) EXPECT_FALSE(tokenizer.is_control(id));
}

TEST(SentencePieces, broken_vocabularies_are_named) {
  VocabularyData data = piece_vocabulary();
  data.scores.pop_back();
  EXPECT_NE(Tokenizer::create(data).error().find("tokenizer.ggml.scores"), std::string::npos);
  data = piece_vocabulary();
  data.scores[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(Tokenizer::create(data).error().find("scores[7]"), std::string::npos);
  data = piece_vocabulary();
  data.tokens[5] = "<0xG1>";
  EXPECT_NE(Tokenizer::create(data).error().find("tokens[5]"), std::string::npos);
}

TEST(Tokenizer, a_llama3_word_that_is_a_token_is_never_merged) {
  VocabularyData data = small_vocabulary();
  data.pre = "llama-bpe";
  data.tokens.push_back("whole");
  data.types.push_back(1);
  const Tokenizer tokenizer = make(data);
  EXPECT_EQ(texts(tokenizer, tokenizer.encode("whole", false)), std::vector<std::string>{"whole"});
  data.pre = "qwen2";
  EXPECT_EQ(make(data).encode("whole", false).size(), 5u);
}

// A vocabulary of single bytes behind the given special tokens, whose ids are their places.
Tokenizer bytes_and(const std::vector<std::pair<std::string, std::int32_t>>& specials) {
  VocabularyData data;
  data.model = "gpt2";
  data.pre = "smollm";
  for (const auto& [text, type] : specials) {
    data.tokens.push_back(text);
    data.types.push_back(type);
  }
  for (unsigned byte = 0; byte < 256; ++byte) {
    data.tokens.push_back(byte_symbol(static_cast<std::uint8_t>(byte)));
    data.types.push_back(1);
  }
  return make(std::move(data));
}

// The rule as it is told: the longest special token first, by id among equals, from left to right, over what no other
// one has taken; a control token only where every byte of it is permitted.
std::vector<TokenId> cut_one_by_one(const std::vector<std::pair<std::string, std::int32_t>>& specials,
                                    const std::string& text, const std::vector<bool>& permitted) {
  std::vector<TokenId> order(specials.size());
  for (TokenId id = 0; id < order.size(); ++id) order[id] = id;
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return std::pair(specials[b].first.size(), a) < std::pair(specials[a].first.size(), b);
  });
  std::vector<std::int64_t> taken(text.size(), -1);  // by the special token that begins there; -2: within one
  for (const TokenId id : order) {
    const std::string& special = specials[id].first;
    for (std::size_t at = 0; at + special.size() <= text.size(); ++at) {
      bool fits = text.compare(at, special.size(), special) == 0;
      for (std::size_t i = at; fits && i < at + special.size(); ++i) {
        fits = taken[i] == -1 && (specials[id].second != 3 || permitted[i]);
      }
      if (!fits) continue;
      taken[at] = id;
      for (std::size_t i = at + 1; i < at + special.size(); ++i) taken[i] = -2;
    }
  }
  std::vector<TokenId> out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<TokenId>(specials.size() + static_cast<unsigned char>(text[i]));
    if (taken[i] != -2) out.push_back(taken[i] >= 0 ? static_cast<TokenId>(taken[i]) : byte);
  }
  return out;
}

TEST(Tokenizer, OC_ENGINE_1005_special_tokens_are_cut_longest_first_whatever_overlaps) {
  const std::vector<std::pair<std::string, std::int32_t>> overlapping = {{"x<a", 4}, {"<ab>", 4}};
  EXPECT_EQ(bytes_and(overlapping).encode("x<ab>", false), (std::vector<TokenId>{2 + 'x', 1}))
      << "not the one that begins first";
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    Prng prng(seed);
    const auto word = [&](std::size_t size) {
      std::string out;
      while (out.size() < size) out += static_cast<char>('a' + prng.below(2 + seed % 2));
      return out;
    };
    std::vector<std::pair<std::string, std::int32_t>> specials;
    for (std::size_t i = 0, count = 1 + prng.below(8); i < count; ++i) {
      specials.emplace_back(word(1 + prng.below(5)), prng.chance(1, 2) ? 3 : 4);  // now and then one twice
    }
    std::vector<TextSegment> segments;
    std::string text;
    std::vector<bool> permitted;
    for (std::size_t i = 0, count = 1 + prng.below(4); i < count; ++i) {
      segments.push_back({word(prng.below(12)), prng.chance(1, 2)});
      text += segments.back().text;
      permitted.resize(text.size(), segments.back().allow_special);
    }
    EXPECT_EQ(bytes_and(specials).encode(segments), cut_one_by_one(specials, text, permitted)) << "seed " << seed;
  }
}

// 6,000 looks at a megabyte would be too many; so would be one list of all places of all of them.
TEST(Tokenizer, OC_ENGINE_1025_many_special_tokens_cost_no_more_than_few) {
  std::vector<std::pair<std::string, std::int32_t>> specials;
  for (int i = 0; i < 6000; ++i) specials.emplace_back("<unused" + std::to_string(i) + ">", 3);
  for (std::size_t size = 1; size < 32; ++size) specials.emplace_back(std::string(size, '\n'), 4);
  const Tokenizer tokenizer = bytes_and(specials);
  constexpr std::size_t kMebibyte = 1 << 20;
  EXPECT_EQ(tokenizer.encode(std::string(kMebibyte, '<'), true).size(), kMebibyte);
  EXPECT_EQ(tokenizer.encode(std::string(kMebibyte, '\n'), true).size(), (kMebibyte + 30) / 31);
  std::string all;
  for (const auto& [text, type] : specials) all += type == 3 ? text : "";
  EXPECT_EQ(tokenizer.encode(all, true).size(), 6000u);
  EXPECT_EQ(tokenizer.encode(all, false).size(), all.size()) << "user text names none";
}

}  // namespace
}  // namespace orch::worker
