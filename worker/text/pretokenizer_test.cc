// PCRE2 with Unicode properties is the oracle: the same pattern over random text of every class must cut at the same
// bytes. Its tables are of the host's Unicode version; what the older of the two does not assign is left out, and
// counted.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "worker/text/pretokenizer.h"

#include <gtest/gtest.h>
#include <pcre2.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "common/base/prng.h"
#include "worker/text/unicode_categories.h"
#include "worker/text/utf8.h"

namespace orch::worker {
namespace {

using Words = std::vector<std::string>;

Words split(PreTokenizer kind, std::string_view text) {
  Words out;
  for (const std::string_view word : split_words(kind, text)) out.emplace_back(word);
  return out;
}

class Pcre {
 public:
  explicit Pcre(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                              &error, &offset, nullptr));
    EXPECT_NE(code_, nullptr);
    match_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
  }
  // Matches and the gaps between them.
  void split(std::string_view text, Words& out) const {
    std::size_t at = 0;
    while (at < text.size()) {
      const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, 0,
                                    match_.get(), nullptr);
      if (found < 1) break;
      const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match_.get());
      if (range[0] > at) out.emplace_back(text.substr(at, range[0] - at));
      out.emplace_back(text.substr(range[0], range[1] - range[0]));
      at = range[1];
    }
    if (at < text.size()) out.emplace_back(text.substr(at));
  }

 private:
  struct FreeCode {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  struct FreeMatch {
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  };
  std::unique_ptr<pcre2_code, FreeCode> code_;
  std::unique_ptr<pcre2_match_data, FreeMatch> match_;
};

using UnicodeVersion = std::array<int, 3>;

// "14.0.0" or "14.0".
UnicodeVersion version_of(std::string_view text) {
  UnicodeVersion out{};
  std::size_t part = 0;
  for (const char c : text) {
    if (c == '.') {
      ++part;
    } else if (c >= '0' && c <= '9' && part < out.size()) {
      out[part] = out[part] * 10 + (c - '0');
    } else {
      break;
    }
  }
  EXPECT_GT(out[0], 0) << text;
  return out;
}

UnicodeVersion version_of_pcre2() {
  std::array<char, 64> text{};
  EXPECT_LE(pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, nullptr), static_cast<int>(text.size()));
  pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, text.data());
  return version_of(text.data());
}

// PCRE2's \s under UCP also holds U+180E, which Unicode took out of White_Space in version 6.3.
bool is_judged(std::uint32_t code_point) {
  return !(code_point >= 0xD800 && code_point <= 0xDFFF) && code_point != 0x180E;
}

struct Judgement {
  std::vector<std::uint32_t> wrong;
  std::vector<bool> left_out = std::vector<bool>(0x110000);  // of another class because one of the two is older
  std::size_t left_out_count = 0;
};

Judgement judge_classes() {
  const Pcre letter("\\p{L}");
  const Pcre number("\\p{N}");
  const Pcre space("\\s");
  const Pcre unassigned("\\p{Cn}");
  const bool pcre_is_newer = version_of_pcre2() > version_of(unicode_table::kVersion);
  Judgement out;
  for (std::uint32_t code_point = 1; code_point < 0x110000; ++code_point) {
    if (!is_judged(code_point)) continue;
    std::string text = "|";
    append_utf8(text, code_point);
    const auto in = [&text](const Pcre& pattern) {
      Words parts;
      pattern.split(text, parts);
      return parts.size() == 2;
    };
    const UnicodeClass kind = unicode_class(code_point);
    if (in(letter) == (kind == UnicodeClass::letter) && in(number) == (kind == UnicodeClass::number) &&
        in(space) == (kind == UnicodeClass::space)) {
      continue;
    }
    if (pcre_is_newer ? kind == UnicodeClass::other : in(unassigned)) {
      out.left_out[code_point] = true;
      ++out.left_out_count;
    } else {
      out.wrong.push_back(code_point);
    }
  }
  return out;
}

const Judgement& judgement() {
  static const Judgement out = judge_classes();
  return out;
}

constexpr char kGpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

Words oracle_gpt2(std::string_view text) {
  static const Pcre pattern(kGpt2);
  Words out;
  pattern.split(text, out);
  return out;
}

Words oracle_smollm(std::string_view text) {
  static const Pcre digits("\\p{N}");
  static const Pcre pattern(kGpt2);
  Words pieces;
  digits.split(text, pieces);
  Words out;
  for (const std::string& piece : pieces) pattern.split(piece, out);
  return out;
}

// Only ASCII letters have a case here: PCRE2's (?i) would also fold U+017F to s.
std::string llama3_pattern(const std::string& numbers) {
  return "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" + numbers +
         "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
}

Words oracle_llama3(std::string_view text) {
  static const Pcre pattern(llama3_pattern("\\p{N}{1,3}").c_str());
  Words out;
  pattern.split(text, out);
  return out;
}

Words oracle_qwen2(std::string_view text) {
  static const Pcre pattern(llama3_pattern("\\p{N}").c_str());
  Words out;
  pattern.split(text, out);
  return out;
}

std::uint32_t random_code_point(Prng& prng) {
  static constexpr char kAscii[] = "  \t\n\r'stremvld.,!?-_abcXYZ0159\"(){}";
  switch (prng.below(6)) {
    case 0:
    case 1:
    case 2:
      return static_cast<unsigned char>(kAscii[prng.below(sizeof(kAscii) - 1)]);
    case 3:
      return static_cast<std::uint32_t>(prng.below(0x300));
    case 4: {  // near a class border
      const std::uint32_t border = unicode_table::kRanges[prng.below(unicode_table::kRanges.size())].first;
      return border == 0 ? 0 : border - static_cast<std::uint32_t>(prng.below(2));
    }
    default:
      return static_cast<std::uint32_t>(prng.below(0x110000));
  }
}

std::string random_text(Prng& prng) {
  std::string text;
  for (std::uint64_t left = prng.below(24); left > 0; --left) {
    const std::uint32_t code_point = random_code_point(prng);
    if (!is_judged(code_point) || judgement().left_out[code_point]) continue;
    append_utf8(text, code_point);
  }
  return text;
}

TEST(PreTokenizer, cuts_random_unicode_as_pcre2_does) {
  Prng prng(20260117);
  for (int i = 0; i < 20'000; ++i) {
    const std::string text = random_text(prng);
    ASSERT_EQ(split(PreTokenizer::gpt2, text), oracle_gpt2(text)) << "case " << i << ": " << text;
    ASSERT_EQ(split(PreTokenizer::smollm, text), oracle_smollm(text)) << "case " << i << ": " << text;
    ASSERT_EQ(split(PreTokenizer::llama3, text), oracle_llama3(text)) << "case " << i << ": " << text;
    ASSERT_EQ(split(PreTokenizer::qwen2, text), oracle_qwen2(text)) << "case " << i << ": " << text;
  }
}

TEST(PreTokenizer, classes_agree_with_pcre2_on_every_code_point) {
  for (const std::uint32_t code_point : judgement().wrong) ADD_FAILURE() << "U+" << std::hex << code_point;
  // One version of Unicode brings some thousands of letters, more than that would hide a wrong table.
  EXPECT_LT(judgement().left_out_count, 12'000u);
  RecordProperty("left_out", static_cast<int>(judgement().left_out_count));
}

// The table is of one version on every host: what came with 15.0, 15.1 and 16.0.
TEST(PreTokenizer, OC_ENGINE_1031_classes_are_those_of_unicode_15_1_whatever_the_host_has) {
  EXPECT_EQ(version_of(unicode_table::kVersion), (UnicodeVersion{15, 1, 0}));
  EXPECT_EQ(unicode_class(0x11F04), UnicodeClass::letter) << "15.0";
  EXPECT_EQ(unicode_class(0x11F50), UnicodeClass::number) << "15.0";
  EXPECT_EQ(unicode_class(0x2EBF0), UnicodeClass::letter) << "15.1";
  EXPECT_EQ(unicode_class(0x105C0), UnicodeClass::other) << "16.0 makes it a letter";
}

TEST(PreTokenizer, smollm_lets_every_digit_stand_alone) {
  EXPECT_EQ(split(PreTokenizer::smollm, "in 2024 we"), (Words{"in", " ", "2", "0", "2", "4", " we"}));
  EXPECT_EQ(split(PreTokenizer::gpt2, "in 2024 we"), (Words{"in", " 2024", " we"}));
}

TEST(PreTokenizer, llama3_takes_numbers_by_three_and_qwen2_one_by_one) {
  EXPECT_EQ(split(PreTokenizer::llama3, "in 2024 We'LL\n\n x"),
            (Words{"in", " ", "202", "4", " We", "'LL", "\n\n", " x"}));
  EXPECT_EQ(split(PreTokenizer::qwen2, "(a) 12!?\n"), (Words{"(a", ")", " ", "1", "2", "!?\n"}));
}

// Words of a run that were found by looking at the whole run each time would take 10^12 steps here.
TEST(PreTokenizer, OC_ENGINE_1025_a_million_of_one_kind_takes_a_million_steps) {
  const std::string digits(1'000'000, '7');
  EXPECT_EQ(split_words(PreTokenizer::qwen2, digits).size(), 1'000'000u);
  EXPECT_EQ(split_words(PreTokenizer::llama3, digits).size(), 333'334u);
  for (const PreTokenizer kind :
       {PreTokenizer::gpt2, PreTokenizer::smollm, PreTokenizer::llama3, PreTokenizer::qwen2}) {
    for (const std::string_view part :
         {"7", " ", "\n", "x", "!", "'", " 7", "x ", " !", "\n ", "'l", "' ", "7x", "7 \n"}) {
      std::string text;
      while (text.size() < 200'000) text += part;
      std::size_t bytes = 0;
      for (const std::string_view word : split_words(kind, text)) bytes += word.size();
      EXPECT_EQ(bytes, text.size()) << part;
    }
  }
}

TEST(PreTokenizer, leaves_the_last_space_to_the_next_word) {
  EXPECT_EQ(split(PreTokenizer::gpt2, "a   b  "), (Words{"a", "  ", " b", "  "}));
}

TEST(PreTokenizer, keeps_broken_utf8_byte_for_byte) {
  const std::string text = "a\xFF\xC3 b";
  std::string joined;
  for (const std::string& word : split(PreTokenizer::smollm, text)) joined += word;
  EXPECT_EQ(joined, text);
}

TEST(PreTokenizer, unknown_name_has_no_splitter) { EXPECT_FALSE(pre_tokenizer_by_name("deepseek-llm").has_value()); }

}  // namespace
}  // namespace orch::worker
