// Requests against the contract: what is taken, and the field and limit that each refusal names (ORCH-2006).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/runtime/entropy.h"
#include "orchestratord/shell/chat_request.h"
#include "orchestratord/shell/task_request.h"

namespace orch::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kTask[] = "7d444840-9dc0-11d1-b245-5ffdce74fad2";

json task_body() { return {{"task_id", kTask}, {"model_ref", "m"}, {"max_tokens", 4}, {"prompt", "Hi"}}; }
json chat_body() { return {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}}; }
JobId job_id() { return JobId{*Uuid::parse(kTask)}; }

struct Refusal {
  std::string changes;  // merged into a valid body
  std::string field;
  std::string says;
  Outcome outcome = Outcome::INVALID_PARAMS;
};

// What a caller named is said back: bounded, whole code points, and visible even when it is empty.
TEST(UnknownField, ORCH_2006_any_name_is_named) {
  json body = task_body();
  body[""] = 1;
  EXPECT_EQ(parse_task_request(body.dump()).error().field, "\"\"");
  std::string name = "a";
  for (int i = 0; i < 40; ++i) name += "\xC3\xA9";
  body = task_body();
  body[name] = 1;
  const Failure failure = parse_task_request(body.dump()).error();
  EXPECT_EQ(failure.field.size(), 63U);
  EXPECT_EQ(json(failure.field).dump().size(), 65U) << "valid UTF-8, or dump() throws";
}

class TaskRefusal : public ::testing::TestWithParam<Refusal> {};
TEST_P(TaskRefusal, ORCH_2006_names_the_field_and_the_limit) {
  json body = task_body();
  ASSERT_TRUE(parse_task_request(body.dump()).ok());
  body.update(json::parse(GetParam().changes));
  const auto spec = parse_task_request(body.dump());
  ASSERT_FALSE(spec.ok());
  EXPECT_EQ(spec.error().outcome, GetParam().outcome);
  EXPECT_EQ(spec.error().field, GetParam().field);
  EXPECT_THAT(spec.error().message, HasSubstr(GetParam().says));
}
INSTANTIATE_TEST_SUITE_P(
    Fields, TaskRefusal,
    ::testing::Values(
        Refusal{R"({"colour": 1})", "colour", "not a field"}, Refusal{R"({"task_id": "abc"})", "task_id", "UUID"},
        Refusal{R"({"task_id": null})", "task_id", "required"}, Refusal{R"({"task_id": 7})", "task_id", "string"},
        Refusal{R"({"task_id": "00000000-0000-0000-0000-000000000000"})", "task_id", "UUID"},
        Refusal{R"({"session_id": "x"})", "session_id", "UUID"}, Refusal{R"({"model_ref": ""})", "model_ref", "empty"},
        Refusal{R"({"priority": "urgent"})", "priority", "interactive, batch"},
        Refusal{R"({"priority": 1})", "priority", "one of"},
        Refusal{R"({"max_tokens": 0})", "max_tokens", "1..1048576"},
        Refusal{R"({"max_tokens": -1})", "max_tokens", "1..1048576"},
        Refusal{R"({"max_tokens": 1.5})", "max_tokens", "integer"},
        Refusal{R"({"max_tokens": 1048577})", "max_tokens", "1..1048576"},
        Refusal{R"({"max_tokens": "4"})", "max_tokens", "integer"},
        Refusal{R"({"deadline_ms": 0})", "deadline_ms", "1..86400000"},
        Refusal{R"({"seed": 9223372036854775808})", "seed", "0..9223372036854775807"},
        Refusal{R"({"seed": -1})", "seed", "0.."}, Refusal{R"({"temperature": 2.1})", "temperature", "0..2"},
        Refusal{R"({"top_p": 0})", "top_p", "above 0"}, Refusal{R"({"prompt": ""})", "prompt", "empty"},
        Refusal{R"({"prompt": null})", "prompt", "required"},
        Refusal{R"({"messages": [{"role": "user", "content": "x"}]})", "messages", "exclude"},
        Refusal{R"({"stop": [""]})", "stop[0]", "1..256"}, Refusal{R"({"stop": 5})", "stop", "1..256"},
        Refusal{R"({"detached": "yes"})", "detached", "true or false"},
        Refusal{R"({"presence_penalty": 2.5})", "presence_penalty", "-2..2"},
        Refusal{R"({"top_logprobs": 2})", "top_logprobs", "logprobs: true"},
        Refusal{R"({"workload": "embedding"})", "workload", "not built", Outcome::NOT_IMPLEMENTED},
        Refusal{R"({"inputs": ["x"]})", "inputs", "not built", Outcome::NOT_IMPLEMENTED},
        Refusal{R"({"placement": "gold"})", "placement", "object"},
        Refusal{R"({"placement": {"pins": "gold"}})", "placement.pins", "not a field"},
        Refusal{R"({"placement": {"pin": ""}})", "placement.pin", "empty"},
        Refusal{R"({"placement": {"prefer": []}})", "placement.prefer", "1..16"},
        Refusal{R"({"placement": {"avoid": ["a", 5]}})", "placement.avoid[1]", "1..128"},
        Refusal{R"({"placement": {"allow_fallback": 1}})", "placement.allow_fallback", "true or false"}));

class ChatRefusal : public ::testing::TestWithParam<Refusal> {};
TEST_P(ChatRefusal, ORCH_2006_names_the_field_and_the_limit) {
  json body = chat_body();
  ASSERT_TRUE(parse_chat_request(body.dump(), job_id()).ok());
  body.update(json::parse(GetParam().changes));
  const auto chat = parse_chat_request(body.dump(), job_id());
  ASSERT_FALSE(chat.ok());
  EXPECT_EQ(chat.error().outcome, GetParam().outcome);
  EXPECT_EQ(chat.error().field, GetParam().field);
  EXPECT_THAT(chat.error().message, HasSubstr(GetParam().says));
}
INSTANTIATE_TEST_SUITE_P(
    Fields, ChatRefusal,
    ::testing::Values(
        Refusal{R"({"flavour": "mint"})", "flavour", "not a field"}, Refusal{R"({"model": null})", "model", "required"},
        Refusal{R"({"messages": []})", "messages", "1..4096"}, Refusal{R"({"messages": null})", "messages", "required"},
        Refusal{R"({"messages": [7]})", "messages[0]", "object"},
        Refusal{R"({"messages": [{"role": "robot", "content": "x"}]})", "messages[0].role", "one of"},
        Refusal{R"({"messages": [{"content": "x"}]})", "messages[0].role", "required"},
        Refusal{R"({"messages": [{"role": "user", "content": ""}]})", "messages[0].content", "empty"},
        Refusal{R"({"messages": [{"role": "user"}]})", "messages[0].content", "required"},
        Refusal{R"({"messages": [{"role": "user", "content": "x", "name": "n"}]})", "messages[0].name", "not a field"},
        Refusal{R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
                "messages[0].content[0].type", "text"},
        Refusal{R"({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]})",
                "messages[0].content[0].text", "empty"},
        Refusal{R"({"max_tokens": 4, "max_completion_tokens": 5})", "max_completion_tokens", "differ"},
        Refusal{R"({"n": 9})", "n", "1..8"}, Refusal{R"({"n": 0})", "n", "1..8"},
        Refusal{R"({"temperature": 9})", "temperature", "0..2"},
        Refusal{R"({"stream_options": {"include_usage": true}})", "stream_options", "stream: true"},
        Refusal{R"({"stream": true, "stream_options": {"x": 1}})", "stream_options.x", "not a field"},
        Refusal{R"({"stream": true, "stream_options": {"include_usage": 1}})", "stream_options.include_usage",
                "true or false"},
        Refusal{R"({"frequency_penalty": 2.5})", "frequency_penalty", "-2..2"},
        Refusal{R"({"presence_penalty": -2.5})", "presence_penalty", "-2..2"},
        Refusal{R"({"repetition_penalty": 0})", "repetition_penalty", "0.01..10"},
        Refusal{R"({"repetition_penalty": "high"})", "repetition_penalty", "number"},
        Refusal{R"({"logit_bias": [1]})", "logit_bias", "object"},
        Refusal{R"({"logit_bias": {"the": 1}})", "logit_bias", "digits"},
        Refusal{R"({"logit_bias": {"01": 1}})", "logit_bias", "digits"},
        Refusal{R"({"logit_bias": {"": 1}})", "logit_bias", "digits"},
        Refusal{R"({"logit_bias": {"4294967296": 1}})", "logit_bias", "digits"},
        Refusal{R"({"logit_bias": {"12": 101}})", "logit_bias.12", "-100..100"},
        Refusal{R"({"logit_bias": {"12": true}})", "logit_bias.12", "-100..100"},
        Refusal{R"({"logprobs": 1})", "logprobs", "true or false"},
        Refusal{R"({"top_logprobs": 2})", "top_logprobs", "logprobs: true"},
        Refusal{R"({"logprobs": true, "top_logprobs": 21})", "top_logprobs", "0..20"},
        Refusal{R"({"response_format": {"type": "xml"}})", "response_format.type", "one of"},
        Refusal{R"({"tools": [{}]})", "tools", "not built", Outcome::NOT_IMPLEMENTED}));

TEST(Request, bodies_that_are_no_json_object_name_the_offset) {
  const auto message = [](std::string_view body) { return parse_task_request(body).error().message; };
  EXPECT_THAT(message(""), HasSubstr("empty"));
  EXPECT_THAT(message("[]"), HasSubstr("object"));
  EXPECT_THAT(message("{\"a\": }"), HasSubstr("not valid JSON at byte 7"));
  EXPECT_THAT(message("{\"prompt\": \"\xff\"}"), HasSubstr("UTF-8 at byte 12"));
  EXPECT_THAT(message("{\"prompt\": \"\\ud800\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(message(std::string(100'000, '[')),
              HasSubstr("not valid JSON"));  // deep nesting neither crashes nor recurses
}

TEST(Request, a_task_becomes_the_job_it_describes) {
  json body = task_body();
  body.update(json{{"priority", "batch"},
                   {"deadline_ms", 1500},
                   {"seed", 7},
                   {"determinism", "strict"},
                   {"detached", true},
                   {"require_gpu", true},
                   {"temperature", 0},
                   {"top_p", 0.5},
                   {"stop", {"a", "b"}},
                   {"engine", "llamacpp"},
                   {"ctx", 1024},
                   {"workload", "completion"}});
  const auto spec = parse_task_request(body.dump());
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->id, job_id());
  EXPECT_EQ(spec->priority, Priority::batch);
  EXPECT_EQ(spec->deadline, Duration::milliseconds(1500));
  EXPECT_EQ(spec->determinism, Determinism::strict);
  EXPECT_EQ(spec->attachment, Attachment::detached);
  EXPECT_TRUE(spec->require_gpu);
  EXPECT_EQ(spec->prompt_bytes, 2U);
  EXPECT_EQ(spec->prompt_messages, 0U);
  EXPECT_EQ(spec->payload->sampling.seed, 7U);
  EXPECT_EQ(spec->payload->sampling.temperature, 0.0F);
  EXPECT_EQ(spec->payload->stop, (std::vector<std::string>{"a", "b"}));
}

// Ruling 9: the seed of a request without one is a function of its id alone.
TEST(Request, OC_CORE_1015_wishes_for_a_replica_are_sets) {
  json body = task_body();
  body["placement"] = {{"pin", "gold"}, {"prefer", {"b", "a", "b"}}, {"devices", {"H200"}}, {"allow_fallback", false}};
  const auto spec = parse_task_request(body.dump());
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->wish.pin, "gold");
  EXPECT_EQ(spec->wish.prefer, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(spec->wish.devices, std::vector<std::string>{"H200"});
  EXPECT_TRUE(spec->wish.avoid.empty());
  EXPECT_FALSE(spec->wish.allow_fallback);
  EXPECT_TRUE(parse_task_request(task_body().dump())->wish.empty());
}

TEST(Request, OC_OAI_1009_what_shapes_a_draw_is_the_same_on_both_routes) {
  const json fields = json::parse(R"({"frequency_penalty": 0.5, "presence_penalty": -1, "repetition_penalty": 1.25,
      "logit_bias": {"12": -100, "3": 2.5}, "logprobs": true, "top_logprobs": 4})");
  json body = task_body();
  body.update(fields);
  const auto task = parse_task_request(body.dump());
  ASSERT_TRUE(task.ok()) << task.error().message;
  body = chat_body();
  body.update(fields);
  const auto chat = parse_chat_request(body.dump(), job_id());
  ASSERT_TRUE(chat.ok()) << chat.error().message;
  for (const JobPayload* payload : {task->payload.get(), chat->spec.payload.get()}) {
    EXPECT_EQ(payload->sampling.frequency_penalty, 0.5F);
    EXPECT_EQ(payload->sampling.presence_penalty, -1.0F);
    EXPECT_EQ(payload->sampling.repetition_penalty, 1.25F);
    EXPECT_EQ(payload->sampling.logit_bias, (std::vector<LogitBias>{{3, 2.5F}, {12, -100.0F}}));
    EXPECT_EQ(payload->log_probs, 4U);
  }
  body["top_logprobs"] = nullptr;
  EXPECT_EQ(parse_chat_request(body.dump(), job_id())->spec.payload->log_probs, 0U);
  body["logprobs"] = false;
  EXPECT_EQ(parse_chat_request(body.dump(), job_id())->spec.payload->log_probs, std::nullopt);
}

TEST(Request, OC_OAI_1012_choices_differ_in_their_draws_alone) {
  json body = chat_body();
  body["n"] = 3;
  body["seed"] = 5;
  const auto chat = parse_chat_request(body.dump(), job_id());
  ASSERT_TRUE(chat.ok());
  EXPECT_EQ(chat->choices, 3U);
  const JobId other{*Uuid::parse("7d444840-9dc0-11d1-b245-5ffdce74fad3")};
  const JobSpec first = spec_of_choice(*chat, 0, other);
  const JobSpec third = spec_of_choice(*chat, 2, other);
  EXPECT_EQ(first.id, job_id());
  EXPECT_EQ(first.payload->sampling.choice, 0U);
  EXPECT_EQ(third.id, other);
  EXPECT_EQ(third.payload->sampling.choice, 2U);
  EXPECT_EQ(third.payload->sampling.seed, 5U);
  EXPECT_EQ(third.payload->prompt.messages.size(), 1U);
  EXPECT_EQ(third.attachment, Attachment::attached);
}

TEST(Request, OC_OAI_1013_a_raw_prompt_is_the_job_of_a_posted_one) {
  const json body = {{"model", "m"},  {"prompt", "The sky"}, {"temperature", 0.5},      {"seed", 5},    {"n", 2},
                     {"best_of", 2},  {"stop", "."},         {"stream", true},          {"suffix", ""}, {"echo", false},
                     {"logprobs", 3}, {"user", "u"},         {"logit_bias", {{"3", 2}}}};
  const auto text = parse_completion_request(body.dump(), job_id());
  ASSERT_TRUE(text.ok()) << text.error().message;
  EXPECT_EQ(text->form, AnswerForm::text);
  EXPECT_EQ(text->model, "m");
  EXPECT_TRUE(text->stream);
  EXPECT_EQ(text->choices, 2U);
  EXPECT_EQ(text->spec.max_tokens, 16U);
  EXPECT_EQ(text->spec.prompt_bytes, 7U);
  EXPECT_EQ(text->spec.attachment, Attachment::attached);
  const JobPayload& payload = *text->spec.payload;
  EXPECT_EQ(payload.prompt.text, "The sky");
  EXPECT_TRUE(payload.prompt.messages.empty());
  EXPECT_EQ(payload.sampling.temperature, 0.5F);
  EXPECT_EQ(payload.sampling.seed, 5U);
  EXPECT_EQ(payload.sampling.logit_bias, (std::vector<LogitBias>{{3, 2.0F}}));
  EXPECT_EQ(payload.log_probs, 3U);
  EXPECT_EQ(payload.stop, std::vector<std::string>{"."});
  const auto of_one =
      parse_completion_request(R"({"model": "m", "prompt": ["a"], "max_tokens": 3, "logprobs": null})", job_id());
  ASSERT_TRUE(of_one.ok()) << of_one.error().message;
  EXPECT_EQ(of_one->spec.payload->prompt.text, "a");
  EXPECT_EQ(of_one->spec.payload->log_probs, std::nullopt);
  EXPECT_EQ(of_one->spec.max_tokens, 3U);
}

TEST(Request, OC_OAI_1013_what_a_raw_prompt_cannot_have_is_refused_by_name) {
  struct Case {
    const char* change;
    const char* field;
    Outcome outcome;
  };
  for (const Case& each : {Case{R"({"prompt": null})", "prompt", Outcome::INVALID_PARAMS},
                           Case{R"({"prompt": ""})", "prompt", Outcome::INVALID_PARAMS},
                           Case{R"({"prompt": [""]})", "prompt", Outcome::INVALID_PARAMS},
                           Case{R"({"prompt": []})", "prompt", Outcome::INVALID_PARAMS},
                           Case{R"({"prompt": {}})", "prompt", Outcome::INVALID_PARAMS},
                           Case{R"({"prompt": ["a", "b"]})", "prompt", Outcome::NOT_IMPLEMENTED},
                           Case{R"({"prompt": [1]})", "prompt", Outcome::NOT_IMPLEMENTED},
                           Case{R"({"prompt": [1, 2]})", "prompt", Outcome::NOT_IMPLEMENTED},
                           Case{R"({"prompt": [[1, 2]]})", "prompt", Outcome::NOT_IMPLEMENTED},
                           Case{R"({"echo": true})", "echo", Outcome::NOT_IMPLEMENTED},
                           Case{R"({"suffix": "x"})", "suffix", Outcome::NOT_IMPLEMENTED},
                           Case{R"({"best_of": 2})", "best_of", Outcome::NOT_IMPLEMENTED},
                           Case{R"({"best_of": 9})", "best_of", Outcome::INVALID_PARAMS},
                           Case{R"({"logprobs": 21})", "logprobs", Outcome::INVALID_PARAMS},
                           Case{R"({"logprobs": true})", "logprobs", Outcome::INVALID_PARAMS},
                           Case{R"({"max_tokens": 0})", "max_tokens", Outcome::INVALID_PARAMS},
                           Case{R"({"messages": []})", "messages", Outcome::INVALID_PARAMS}}) {
    json body = {{"model", "m"}, {"prompt", "The sky"}};
    body.update(json::parse(each.change));
    const auto text = parse_completion_request(body.dump(), job_id());
    ASSERT_FALSE(text.ok()) << each.change;
    EXPECT_EQ(text.error().outcome, each.outcome) << each.change;
    EXPECT_EQ(text.error().field, each.field) << each.change;
  }
}

TEST(Request, an_absent_seed_comes_from_the_task_id) {
  const auto spec = parse_task_request(task_body().dump());
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->payload->sampling.seed, runtime::seed_of_task(kTask));
  const auto chat = parse_chat_request(chat_body().dump(), job_id());
  ASSERT_TRUE(chat.ok());
  EXPECT_EQ(chat->spec.payload->sampling.seed, runtime::seed_of_task(kTask));
}

TEST(Request, chat_content_parts_are_joined_and_neutral_parameters_pass) {
  json body = chat_body();
  body["messages"] = json::parse(R"([{"role": "developer", "content": "Be brief."},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])");
  body.update(json::parse(
      R"({"n": 1, "frequency_penalty": 0, "logit_bias": {}, "logprobs": false, "tools": [], "stop": "x", "user": "u",
      "response_format": {"type": "text"}, "seed": null, "stream": true,
      "stream_options": {"include_usage": true}, "max_completion_tokens": 9})"));
  const auto chat = parse_chat_request(body.dump(), job_id());
  ASSERT_TRUE(chat.ok()) << chat.error().message;
  const Prompt& prompt = chat->spec.payload->prompt;
  ASSERT_EQ(prompt.messages.size(), 2U);
  EXPECT_EQ(prompt.messages[0].role, "system");
  EXPECT_EQ(prompt.messages[1].content, "ab");
  EXPECT_TRUE(chat->stream && chat->include_usage);
  EXPECT_EQ(chat->spec.max_tokens, 9U);
  EXPECT_EQ(chat->spec.attachment, Attachment::attached);
  EXPECT_EQ(chat->spec.prompt_messages, 2U);
}

}  // namespace
}  // namespace orch::gateway
