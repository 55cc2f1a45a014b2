#include <gtest/gtest.h>

#include "common/grammar/grammar_fixture.h"
#include "common/grammar/limits.h"
#include "common/grammar/number_range.h"

namespace orch::grammar {
namespace {

using testing::Judge;
using testing::schema;

struct Case {
  std::string_view schema;
  std::vector<std::string_view> yes;
  std::vector<std::string_view> no;
};

void judge_all(const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    Judge judge = schema(each.schema);
    for (const auto text : each.yes) EXPECT_TRUE(judge.accepts(text)) << each.schema << " on " << text;
    for (const auto text : each.no) EXPECT_FALSE(judge.accepts(text)) << each.schema << " on " << text;
  }
}

TEST(Schema, OC_GRAMMAR_1001_types) {
  judge_all({
      {R"({"type":"null"})", {"null"}, {"nul", "true", "null "}},
      {R"({"type":"boolean"})", {"true", "false"}, {"1"}},
      {R"({"type":"integer"})", {"0", "-1", "123456789012345678"}, {"-0", "01", "1.0", "1234567890123456789", ""}},
      {R"({"type":"number"})", {"0", "-0.5", "1e5", "1.25E-10"}, {"1.", ".5", "1e", "1e100", "+1"}},
      {R"({"type":"string"})",
       {R"("")", R"("a\n\"\\\u00e9")", "\"\xC3\xA9\""},
       {R"("a)", "\"\n\"", R"("\uD800")", R"("\x")", "\"\xC3\""}},
      {R"({"type":["null","integer"]})", {"null", "4"}, {"\"\""}},
      {R"({})", {"1", R"({"a": [1, {}]})", "[]", "\"x\""}, {"", "{", "[1,]"}},
      {R"(true)", {"null"}, {"nil"}},
      {R"({"type":"object"})", {"{}", "{ }", R"({"a":1, "b":{"c":[]}})", "{\n  \"a\": 1\n}"}, {"{\"a\"}", "[]", "{,}"}},
      {R"({"type":"array"})", {"[]", "[ ]", "[1, [2]]", "[\n  1\n]"}, {"[1,]", "[,1]"}},
  });
}

TEST(Schema, OC_GRAMMAR_1002_values) {
  judge_all({
      {R"({"const":{"a":[1,"x"]}})", {R"({"a":[1,"x"]})"}, {R"({"a":[1]})"}},
      {R"({"enum":["a","ab","b",1,null]})", {R"("a")", R"("ab")", "1", "null"}, {R"("abc")", "2", "nul"}},
      {R"({"enum":["a",1,2],"type":"integer"})", {"1", "2"}, {R"("a")"}},
      {R"({"enum":["\"\u0001\\"]})", {R"("\"\u0001\\")"}, {"\"\\\"\x01\\\\\""}},
  });
  EXPECT_EQ(schema(R"({"enum":["a"],"type":"integer"})").refusal.where, "#/enum");
}

TEST(Schema, OC_GRAMMAR_1003_strings) {
  judge_all({
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {R"("ab")", R"("a\n\"")", "\"\xC3\xA9\xF0\x9F\x98\x80\""},
       {R"("a")", R"("abcd")", "\"\xC3\xA9\""}},
      {R"({"type":"string","maxLength":0})", {R"("")"}, {R"("a")"}},
      {R"({"type":"string","pattern":"b+"})", {R"("b")", R"("abba")", R"("\"b")"}, {R"("a")"}},
      {R"({"type":"string","pattern":"^b+$"})", {R"("bb")"}, {R"("ab")", R"("")"}},
      {R"({"type":"string","pattern":"^a|b$"})", {R"("axx")", R"("xxb")"}, {R"("xx")"}},
      {R"({"type":"string","pattern":"^[\"\\n]$"})", {R"("\"")", R"("\n")"}, {"\"\n\"", R"("a")"}},
      {R"({"format":"date"})", {R"("2024-02-28")"}, {R"("2024-02-30")", R"("24-01-01")"}},
      {R"({"format":"date-time"})",
       {R"("2024-12-31T23:59:59Z")", R"("2024-01-01T00:00:00.5+01:00")"},
       {R"("2024-01-01")"}},
      {R"({"format":"uuid"})", {R"("6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10")"}, {R"("6a1d")"}},
      {R"({"format":"ipv4"})", {R"("0.0.0.0")", R"("255.249.199.9")"}, {R"("256.0.0.0")", R"("01.0.0.0")"}},
  });
}

TEST(Schema, OC_GRAMMAR_1004_numbers_between_bounds) {
  for (const auto& [low, high] : {std::pair{0, 0}, {-3, 12}, {7, 103}, {-120, -7}, {99, 1001}, {-1, 1}}) {
    Judge judge =
        schema(R"({"type":"integer","minimum":)" + std::to_string(low) + R"(,"maximum":)" + std::to_string(high) + "}");
    for (int value = -1200; value <= 1200; ++value) {
      ASSERT_EQ(judge.accepts(std::to_string(value)), value >= low && value <= high)
          << value << " in " << low << ".." << high;
    }
    EXPECT_FALSE(judge.accepts("-0"));
  }
  judge_all({
      {R"({"type":"integer","exclusiveMinimum":1,"exclusiveMaximum":4})", {"2", "3"}, {"1", "4"}},
      {R"({"type":"integer","minimum":1.5,"maximum":3.5})", {"2", "3"}, {"1", "4"}},
      {R"({"type":"integer","minimum":-1.5,"exclusiveMaximum":0})", {"-1"}, {"-2", "0"}},
      {R"({"type":"integer","minimum":100})", {"100", "999999999999999999"}, {"99", "-100"}},
      {R"({"type":"integer","maximum":9223372036854775807})", {"999999999999999999", "-5"}, {"9999999999999999999"}},
      {R"({"type":"number","minimum":0.5,"maximum":12.25})",
       {"0.5", "0.50", "1", "9.99", "12.25", "12.2", "12"},
       {"0.49", "0.4", "12.26", "12.3", "13", "-1", "1e0"}},
      {R"({"type":"number","exclusiveMinimum":-1,"exclusiveMaximum":1})",
       {"0", "-0.5", "0.99"},
       {"-1", "1", "1.0", "-0"}},
      {R"({"type":"number","minimum":1e2})", {"100", "123.5"}, {"99.9"}},
  });
  EXPECT_EQ(schema(R"({"type":"number","minimum":2,"exclusiveMaximum":2})").refusal.message,
            "no number lies between the bounds");
  EXPECT_EQ(schema(R"({"type":"number","minimum":0.1234567890123456})").refusal.where, "#/minimum");
}

TEST(Schema, OC_GRAMMAR_1004_integers_are_rounded_into_the_bounds) {
  const auto whole = [](std::string_view number, bool is_low) {
    const NumberBound bound = rounded_inside({*parse_decimal(number), true}, is_low);
    return (bound.value.negative ? "-" : "") + bound.value.whole;
  };
  EXPECT_EQ(whole("9.5", true), "10");
  EXPECT_EQ(whole("9.5", false), "9");
  EXPECT_EQ(whole("-9.5", true), "-9");
  EXPECT_EQ(whole("-9.5", false), "-10");
  EXPECT_EQ(whole("-0.5", true), "0");
  EXPECT_EQ(whole("12e-1", false), "1");
}

TEST(Schema, OC_GRAMMAR_1005_arrays) {
  judge_all({
      {R"({"type":"array","items":{"type":"integer"}})", {"[]", "[1,2, 3]"}, {"[true]", "[1 2]"}},
      {R"({"items":{"type":"integer"},"minItems":2,"maxItems":3})", {"[1,2]", "[1,2,3]"}, {"[]", "[1]", "[1,2,3,4]"}},
      {R"({"items":{"type":"integer"},"minItems":2})", {"[1,2]", "[1,2,3,4,5]"}, {"[1]"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
      {R"({"prefixItems":[{"type":"null"},{"type":"boolean"}],"items":false,"minItems":2})",
       {"[null,true]"},
       {"[null]", "[]", "[null,true,1]"}},
      {R"({"prefixItems":[{"type":"null"}],"items":{"type":"integer"}})",
       {"[]", "[null]", "[null,1,2]"},
       {"[1]", "[null,null]"}},
      {R"({"prefixItems":[{"type":"null"}],"minItems":2})", {"[null,1]", "[null,\"x\",{}]"}, {"[null]"}},
  });
  EXPECT_EQ(schema(R"({"type":"array","minItems":3,"maxItems":2})").refusal.where, "#");
  EXPECT_EQ(schema(R"({"type":"array","uniqueItems":true})").refusal.where, "#/uniqueItems");
}

TEST(Schema, OC_GRAMMAR_1006_objects_in_declared_order) {
  judge_all({
      {R"({"properties":{"a":{"type":"integer"},"b":{"type":"null"}},)"
       R"("required":["a","b"],"additionalProperties":false})",
       {R"({"a":1,"b":null})", R"({ "a": 1, "b": null })", "{\n  \"a\": 1,\n  \"b\": null\n}"},
       {R"({"b":null,"a":1})", R"({"a":1})", R"({"a":1,"b":null,})", "{}"}},
      {R"({"properties":{"a":{"type":"integer"},"b":{"type":"null"},"c":{"type":"null"}},"required":["b"]})",
       {R"({"b":null})", R"({"a":1,"b":null})", R"({"b":null,"c":null})", R"({"a":1,"b":null,"c":null})"},
       {"{}", R"({"a":1})", R"({"a":1,"c":null})", R"({,"b":null})", R"({"d":1,"b":null})"}},
      {R"({"properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"boolean"}})",
       {"{}", R"({"a":1})", R"({"a":1,"b":true})", R"({"aa":true,"":false})"},
       {R"({"a":true})", R"({"b":true,"a":1})", R"({"b":1})", R"({"\u0061":true})", R"({"a":1,"a":true})"}},
      {R"({"type":"object","additionalProperties":false})", {"{}", "{ }"}, {R"({"a":1})"}},
      {R"({"required":["x"],"additionalProperties":{"type":"integer"}})", {R"({"x":1,"y":2})"}, {"{}", R"({"y":2})"}},
      {R"({"properties":{"\"":{"type":"null"}},"required":["\""]})", {R"({"\"":null})"}, {R"({""":null})"}},
  });
  EXPECT_EQ(schema(R"({"required":["x"],"additionalProperties":false})").refusal.where, "#/required");
}

TEST(Schema, OC_GRAMMAR_1007_alternatives) {
  judge_all({
      {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1},{"type":"null"}]})",
       {"1", R"("x")", "null"},
       {R"("xx")", "[]"}},
      {R"({"oneOf":[{"type":"integer"},{"type":"string"}]})", {"1", R"("x")"}, {"null"}},
      {R"({"oneOf":[{"const":1},{"const":2}]})", {"1", "2"}, {"3"}},
      {R"({"oneOf":[{"properties":{"k":{"const":"a"},"v":{"type":"integer"}},"required":["k","v"]},)"
       R"({"properties":{"k":{"const":"b"}},"required":["k"]}]})",
       {R"({"k":"a","v":1})", R"({"k":"b"})"},
       {R"({"k":"a"})", R"({"k":"c"})"}},
      {R"({"allOf":[{"type":"integer"}],"title":"t"})", {"1"}, {"true"}},
  });
  EXPECT_EQ(schema(R"({"oneOf":[{"type":"integer"},{"type":"number"}]})").refusal.where, "#/oneOf");
  EXPECT_EQ(schema(R"({"oneOf":[{"const":1},{"const":1.0}]})").refusal.where, "#/oneOf");
  EXPECT_EQ(
      schema(R"({"oneOf":[{"properties":{"k":{"const":"a"}}},{"properties":{"k":{"const":"b"}}}]})").refusal.where,
      "#/oneOf");
  EXPECT_EQ(schema(R"({"allOf":[{},{}]})").refusal.where, "#/allOf");
  EXPECT_EQ(schema(R"({"anyOf":[{"type":"integer"}],"minimum":3})").refusal.where, "#/minimum");
}

TEST(Schema, OC_GRAMMAR_1008_references_and_recursion) {
  judge_all({
      {R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},)"
       R"("next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}}})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1})", R"({"v":1,"next":{"v":2}})"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"array","items":{"$ref":"#"}}]})", {"1", "[1,[2,[]]]"}, {"[true]"}},
      {R"({"definitions":{"a/b~":{"const":7}},"$ref":"#/definitions/a~1b~0"})", {"7"}, {"8"}},
  });
  EXPECT_EQ(schema(R"({"$ref":"#/$defs/x"})").refusal.where, "#/$ref");
  EXPECT_EQ(schema(R"({"$ref":"http://example.org/x"})").refusal.where, "#/$ref");
  EXPECT_EQ(schema(R"({"$ref":"#"})").refusal.message, "a rule calls itself before anything is read (left recursion)");
  EXPECT_EQ(schema(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})").refusal.message,
            "no finite text satisfies the constraint");
  EXPECT_EQ(schema(R"({"properties":{"a":{"$ref":"#/$defs/d"}},"$defs":{"d":{"type":"strin"}}})").refusal.where,
            "#/$defs/d/type");
}

TEST(Schema, OC_GRAMMAR_1009_refuses_every_other_keyword_with_its_path) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases{
      {R"({"not":{}})", "#/not"},
      {R"({"type":"object","properties":{"a/b":{"if":{}}}})", "#/properties/a~1b/if"},
      {R"({"type":"object","patternProperties":{}})", "#/patternProperties"},
      {R"({"type":"array","items":{"contains":{}}})", "#/items/contains"},
      {R"({"type":"integer","multipleOf":2})", "#/multipleOf"},
      {R"({"type":"object","minProperties":1})", "#/minProperties"},
      {R"({"anyOf":[{"type":"string","format":"email"}]})", "#/anyOf/0/format"},
      {R"x({"type":"string","pattern":"(?=a)"})x", "#/pattern"},
      {R"({"type":"string","pattern":"a","maxLength":3})", "#/pattern"},
      {R"({"type":"text"})", "#/type"},
      {R"({"type":"string","minLength":-1})", "#/minLength"},
      {R"({"type":"string","maxLength":100000})", "#/maxLength"},
      {R"({"type":"array","items":[{}]})", "#/items"},
      {R"({"properties":{"a":false}})", "#/properties/a"},
      {R"({"nullable":true})", "#/nullable"},
      {R"({"a":1,"a":2})", "byte 7"},
      {R"([])", "#"},
      {R"({"type":)", "byte 8"}};
  for (const auto& [text, where] : cases) {
    const Judge judge = schema(text);
    EXPECT_FALSE(judge.automaton.has_value()) << text;
    EXPECT_EQ(judge.refusal.where, where) << text << ": " << judge.refusal.message;
    EXPECT_FALSE(judge.refusal.message.empty()) << text;
  }
}

TEST(Schema, OC_GRAMMAR_1030_bombs_are_refused) {
  EXPECT_FALSE(schema(std::string(kTextBytesMax + 1, ' ')).automaton.has_value());
  EXPECT_FALSE(schema(std::string(200, '[') + std::string(200, ']')).automaton.has_value());
  std::string doubling = R"({"$ref":"#/$defs/d0","$defs":{)";  // 2^30 documents, one rule a level
  for (int i = 0; i < 30; ++i) {
    const std::string next = R"({"$ref":"#/$defs/d)" + std::to_string(i + 1) + "\"}";
    doubling += "\"d" + std::to_string(i) + R"(":{"prefixItems":[)" + next + "," + next + R"(],"minItems":2},)";
  }
  doubling += R"("d30":{"const":1}}})";
  auto judge = schema(doubling);
  ASSERT_TRUE(judge.automaton.has_value()) << judge.refusal.message;
  EXPECT_LT(judge.automaton->states_kept(), 100U);
  EXPECT_TRUE(judge.lives("[[[["));
  std::string nested = R"({"type":"string","maxLength":8000})";
  for (int i = 0; i < 10; ++i) nested = R"({"type":"array","minItems":8000,"items":)" + nested + "}";
  EXPECT_FALSE(schema(nested).automaton.has_value());
}

}  // namespace
}  // namespace orch::grammar
