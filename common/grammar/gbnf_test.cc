#include <gtest/gtest.h>

#include "common/grammar/grammar_fixture.h"
#include "common/grammar/limits.h"

namespace orch::grammar {
namespace {

using testing::gbnf;

TEST(Gbnf, OC_GRAMMAR_1012_reads_rules_sets_counts_and_comments) {
  auto judge = gbnf(R"(# a list of words
root ::= "- " item ("\n- " item)*   # one or more
item ::= [a-z]+ (
    " " [0-9]{1,3}
  | "!"?
)
)");
  EXPECT_TRUE(judge.accepts("- ab 12\n- c!"));
  EXPECT_TRUE(judge.accepts("- a"));
  EXPECT_FALSE(judge.accepts("- A"));
  EXPECT_FALSE(judge.accepts("- ab 1234"));
  EXPECT_TRUE(judge.lives("- ab 1"));
}

TEST(Gbnf, OC_GRAMMAR_1012_nests_without_bound_of_its_own) {
  auto judge = gbnf("root ::= \"(\" root \")\" | \"x\"");
  EXPECT_TRUE(judge.accepts("((x))"));
  EXPECT_FALSE(judge.accepts("((x)"));
  EXPECT_FALSE(judge.accepts("(x))"));
  const std::string deep(kStackDepthMax, '(');
  EXPECT_TRUE(judge.lives(deep.substr(1)));
  // The bound of the stack cuts where the text could no longer end, not later.
  EXPECT_FALSE(judge.lives(std::string(kStackDepthMax + 2, '(')));
}

TEST(Gbnf, OC_GRAMMAR_1012_a_call_at_the_end_of_a_rule_needs_no_stack) {
  auto judge = gbnf("root ::= \"a\" root | \"b\"");
  EXPECT_TRUE(judge.accepts(std::string(5000, 'a') + "b"));
}

TEST(Gbnf, OC_GRAMMAR_1012_refuses_with_the_place) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases{
      {"root := \"a\"", "byte 5"},     {"root ::= item", "byte 9"},
      {"root ::= \"a", "byte 10"},     {"root ::= \"a\"\nroot ::= \"b\"", "byte 13"},
      {"root ::= <7>", "byte 9"},      {"root ::= (\"a\"", "byte 13"},
      {"root ::= \"\\q\"", "byte 11"}, {"x ::= \"a\"", "byte 0"},
      {"root ::= [a-", "byte 12"},     {"root ::= \"a\" ]", "byte 13"}};
  for (const auto& [text, where] : cases) {
    const auto judge = gbnf(text);
    EXPECT_FALSE(judge.automaton.has_value()) << text;
    EXPECT_EQ(judge.refusal.where, where) << text << ": " << judge.refusal.message;
  }
}

TEST(Gbnf, OC_GRAMMAR_1013_refuses_left_recursion_and_texts_without_end) {
  EXPECT_NE(gbnf("root ::= root \"a\" | \"b\"").refusal.message.find("left recursion"), std::string::npos);
  EXPECT_NE(gbnf("root ::= n root \"a\" | \"b\"\nn ::= \"x\"?").refusal.message.find("left recursion"),
            std::string::npos);
  EXPECT_NE(gbnf("root ::= \"a\" root").refusal.message.find("no finite text"), std::string::npos);
  EXPECT_TRUE(gbnf("root ::= \"a\" root | dead | \"b\"\ndead ::= \"d\" dead").accepts("ab"));
  EXPECT_FALSE(gbnf("root ::= \"a\" root | dead | \"b\"\ndead ::= \"d\" dead").lives("d"));
}

}  // namespace
}  // namespace orch::grammar
