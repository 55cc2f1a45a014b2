#include "orchestratord/shell/constraint_request.h"

#include <gtest/gtest.h>

#include "orchestratord/shell/chat_request.h"
#include "orchestratord/shell/task_request.h"

namespace orch::gateway {
namespace {

using grammar::ConstraintKind;

std::string chat_body(const std::string& members) {
  return R"({"model":"m","messages":[{"role":"user","content":"Hi"}])" + members + "}";
}

std::string task_body(const std::string& members) {
  return R"({"task_id":"6a1d0c1e-52ba-4b7e-9b39-2f6f3f1c7f10","model_ref":"m","max_tokens":16,"prompt":"Hi")" +
         members + "}";
}

TEST(ConstraintRequest, OC_GRAMMAR_1033_the_schema_is_kept_as_it_was_written) {
  const std::string schema = R"({"type": "object", "properties": {"z": {"const": 1.50}, "a": {"type":"null"}}})";
  auto chat = parse_chat_request(
      chat_body(R"(, "response_format": {"type":"json_schema", "json_schema": {"name":"n","strict":true,"schema": )" +
                schema + "}}"),
      JobId{});
  ASSERT_TRUE(chat.ok()) << chat.error().message;
  ASSERT_TRUE(chat->spec.payload->constraint.has_value());
  EXPECT_EQ(chat->spec.payload->constraint->kind, ConstraintKind::json_schema);
  EXPECT_EQ(chat->spec.payload->constraint->text, schema);
  auto task = parse_task_request(task_body(R"(,"constraint":{"json_schema":)" + schema + "}"));
  ASSERT_TRUE(task.ok()) << task.error().message;
  EXPECT_EQ(task->payload->constraint->text, schema);
}

TEST(ConstraintRequest, OC_GRAMMAR_1033_every_kind_is_taken) {
  EXPECT_FALSE(parse_chat_request(chat_body(""), JobId{})->spec.payload->constraint.has_value());
  EXPECT_FALSE(parse_chat_request(chat_body(R"(,"response_format":{"type":"text"})"), JobId{})
                   ->spec.payload->constraint.has_value());
  EXPECT_EQ(parse_chat_request(chat_body(R"(,"response_format":{"type":"json_object"})"), JobId{})
                ->spec.payload->constraint->kind,
            ConstraintKind::json_object);
  const auto kind_of = [](const std::string& constraint) {
    auto task = parse_task_request(task_body(",\"constraint\":" + constraint));
    EXPECT_TRUE(task.ok()) << task.error().message;
    return task->payload->constraint->kind;
  };
  EXPECT_EQ(kind_of(R"({"json_object":true})"), ConstraintKind::json_object);
  EXPECT_EQ(kind_of(R"({"regex":"a+"})"), ConstraintKind::regex);
  EXPECT_EQ(kind_of(R"({"gbnf":"root ::= \"a\""})"), ConstraintKind::gbnf);
}

TEST(ConstraintRequest, OC_GRAMMAR_1032_refusals_name_the_path_of_the_keyword) {
  const auto chat_field = [](const std::string& format) {
    auto chat = parse_chat_request(chat_body(",\"response_format\":" + format), JobId{});
    EXPECT_FALSE(chat.ok()) << format;
    if (chat.ok()) return std::string();
    EXPECT_EQ(chat.error().outcome, Outcome::INVALID_PARAMS);
    return chat.error().field;
  };
  const std::string schema = R"({"type":"json_schema","json_schema":{"name":"n","schema":)";
  EXPECT_EQ(chat_field(schema + R"({"properties":{"a":{"not":{}}}}}})"),
            "response_format.json_schema.schema#/properties/a/not");
  EXPECT_EQ(chat_field(schema + R"({"type":"integer","type":"null"}}})"), "response_format.json_schema.schema");
  EXPECT_EQ(chat_field(schema + R"(7}})"), "response_format.json_schema.schema#");
  EXPECT_EQ(chat_field(R"({"type":"xml"})"), "response_format.type");
  EXPECT_EQ(chat_field(R"({})"), "response_format.type");
  EXPECT_EQ(chat_field(R"({"type":"json_schema"})"), "response_format.json_schema");
  EXPECT_EQ(chat_field(R"({"type":"json_object","json_schema":{}})"), "response_format.json_schema");
  EXPECT_EQ(chat_field(R"({"type":"json_schema","json_schema":{"name":"n"}})"), "response_format.json_schema.schema");
  const auto task_field = [](const std::string& members) {
    auto task = parse_task_request(task_body(members));
    EXPECT_FALSE(task.ok()) << members;
    return task.ok() ? std::string() : task.error().field;
  };
  EXPECT_EQ(task_field(R"(,"constraint":{})"), "constraint");
  EXPECT_EQ(task_field(R"(,"constraint":{"regex":"a","gbnf":"b"})"), "constraint");
  EXPECT_EQ(task_field(R"x(,"constraint":{"regex":"(?=a)"})x"), "constraint.regex");
  EXPECT_EQ(task_field(R"(,"constraint":{"gbnf":"root ::= root"})"), "constraint.gbnf");
  EXPECT_EQ(task_field(R"(,"constraint":{"xml":1})"), "constraint.xml");
  EXPECT_EQ(task_field(R"(,"constraint":{"regex":"a"},"stop":"x")"), "stop");
  EXPECT_EQ(task_field(R"(,"constraint":{"json_schema":)" + std::string(5000, '[') + std::string(5000, ']') + "}"),
            "constraint.json_schema");
}

TEST(ConstraintRequest, OC_GRAMMAR_1033_members_are_found_in_the_text) {
  const std::string_view text = R"( { "a" : {"b": "}\"," } , "c":[1,{"a":2}],"d":tr,"a":-1.5 })";
  EXPECT_EQ(member_text(text, "a"), "-1.5");
  EXPECT_EQ(member_text(text, "c"), R"([1,{"a":2}])");
  EXPECT_EQ(member_text(R"({"a":{"b":"x"}})", "a"), R"({"b":"x"})");
  EXPECT_EQ(member_text(R"({"a":true})", "a"), "true");
  EXPECT_EQ(member_text("[1]", "a"), std::nullopt);
  for (std::size_t size = 0; size < text.size(); ++size) member_text(text.substr(0, size), "a");
}

}  // namespace
}  // namespace orch::gateway
