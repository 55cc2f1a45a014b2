#include <gtest/gtest.h>

#include <array>

#include "common/grammar/grammar_fixture.h"
#include "common/grammar/limits.h"

namespace orch::grammar {
namespace {

using testing::regex;

struct Case {
  std::string_view pattern;
  std::vector<std::string_view> yes;
  std::vector<std::string_view> no;
};

TEST(Regex, OC_GRAMMAR_1011_accepts_whole_matches) {
  const std::vector<Case> cases{
      {"abc", {"abc"}, {"", "ab", "abcd"}},
      {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
      {"a*b+c?", {"b", "aabbc"}, {"a", "ac"}},
      {"(ab){2,3}", {"abab", "ababab"}, {"ab", "abababab"}},
      {"(a|b){0,2}?", {"", "a", "ba"}, {"aba"}},
      {"[a-c^-]+", {"abc^-"}, {"d"}},
      {"[^a-c]", {"d", "\xC3\xA9", "\xF0\x9F\x98\x80"}, {"a", "\xC3"}},
      {"\\d{2}-\\w", {"12-_", "07-x"}, {"1-x", "12-%"}},
      {".", {"x", "\xE4\xBD\xA0"}, {"\n", "", "xy"}},
      {"\\u00e9\\x41",
       {"\xC3\xA9"
        "A"},
       {"eA"}},
      {"^a$", {"a"}, {"^a$"}},
      {"a\\.b\\/c", {"a.b/c"}, {"axb/c"}},
      {"(?:a(?<n>b)*)+", {"a", "abba", "aab"}, {"b"}},
      {"(a*)*b", {"b", "aaab"}, {"a"}},
      {"\\S\\s", {"x "}, {"\xC2\xA0 ", "x\xC2\xA0"}},
  };
  for (const Case& each : cases) {
    auto judge = regex(each.pattern);
    for (const auto text : each.yes) EXPECT_TRUE(judge.accepts(text)) << each.pattern << " on " << text;
    for (const auto text : each.no) EXPECT_FALSE(judge.accepts(text)) << each.pattern << " on " << text;
  }
}

TEST(Regex, OC_GRAMMAR_1011_refuses_by_place_what_it_does_not_know) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases{
      {"a(?=b)", "byte 3"}, {"(a)\\1", "byte 4"},  {"a\\b", "byte 2"},    {"x(^a)", "byte 2"},  {"*a", "byte 0"},
      {"a**", "byte 2"},    {"(a", "byte 2"},      {"a)", "byte 1"},      {"[a", "byte 1"},     {"[z-a]", "byte 1"},
      {"a{3,2}", "byte 2"}, {"a{x}", "byte 2"},    {"a{9999}", "byte 2"}, {"\\p{L}", "byte 1"}, {"a\xFF", "byte 1"},
      {"a$b", "byte 2"},    {"\\uD800", "byte 2"}, {"\\", "byte 1"},      {"(?i)a", "byte 2"}};
  for (const auto& [pattern, where] : cases) {
    const auto judge = regex(pattern);
    EXPECT_FALSE(judge.automaton.has_value()) << pattern;
    EXPECT_EQ(judge.refusal.where, where) << pattern << ": " << judge.refusal.message;
  }
}

TEST(Regex, OC_GRAMMAR_1030_bombs_are_refused_or_small) {
  EXPECT_FALSE(regex(std::string(kTextBytesMax + 1, 'a')).automaton.has_value());
  EXPECT_FALSE(regex(std::string(100, '(') + std::string(100, ')')).automaton.has_value());
  std::string wide;  // 64 groups of 8192 repeats each within the other: a rule each
  for (int i = 0; i < 10; ++i) wide += "(";
  wide += "a";
  for (int i = 0; i < 10; ++i) wide += "){8192}";
  EXPECT_FALSE(regex(wide).automaton.has_value());
}

// All prefixes of many readings stay within the limits, and the text can always end.
TEST(Regex, OC_GRAMMAR_1031_ambiguity_is_bounded_and_never_a_dead_end) {
  auto judge = regex("(a|b|ab|ba|aab)*(a{0,900}b?){0,900}");
  ASSERT_TRUE(judge.automaton.has_value()) << judge.refusal.message;
  Automaton& automaton = *judge.automaton;
  Automaton::State state = automaton.start();
  for (int i = 0; i < 200; ++i) {
    state = automaton.step(state, i % 3 == 0 ? 'b' : 'a');
    ASSERT_NE(state, Automaton::kDead) << i;
    ASSERT_TRUE(automaton.accepts(state) || automaton.continues(state));
  }
}

}  // namespace
}  // namespace orch::grammar
