#include "worker/text/chat_template.h"

#include <gtest/gtest.h>

#include "worker/text/jinja/evaluator.h"

namespace orch::worker {
namespace {

std::string joined(const std::vector<TextSegment>& segments) {
  std::string out;
  for (const TextSegment& segment : segments) out += segment.text;
  return out;
}

std::string outcome(std::string_view source, const ChatMessages& messages = {{"user", "hi"}}) {
  const auto made = ChatTemplate::create(source, {"<s>", "</s>"});
  if (!made.ok()) return "create: " + made.error();
  const auto rendered = made.value().render(messages);
  return rendered.ok() ? joined(rendered.value()) : "render: " + rendered.error();
}

constexpr std::string_view kChat =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(ChatTemplate, renders_a_conversation) {
  EXPECT_EQ(outcome(kChat, {{"system", "be kind"}, {"user", "hi"}}),
            "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, user_text_stays_marked_through_every_operation) {
  // Each template moves the content through another operation; no byte of it may come out trusted.
  for (const std::string_view source : {"{{ messages[0].content }}",
                                        "{{ messages[0]['content']|trim }}",
                                        "{{ messages[0].content.strip() }}",
                                        "{% set x = messages[0].content %}{{ x ~ '' }}",
                                        "{{ messages[0].content.split('#')|join('#') }}",
                                        "{% set x %}{{ messages[0].content }}{% endset %}{{ x }}",
                                        "{{ messages[0].content.replace('q', 'q') }}",
                                        "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(messages[0].content) }}",
                                        "{{ messages[0].content[0:] }}",
                                        "{% for c in messages[0].content %}{{ c }}{% endfor %}",
                                        "{{ messages|map(attribute='content')|join }}",
                                        "{{ messages[0].content|lower }}",
                                        "{{ messages[0].content * 1 }}",
                                        "{{ (messages|first).content|string }}",
                                        "{{ messages[0].content|indent }}",
                                        "{{ [messages[0].content]|last }}",
                                        "{{ messages[0].content|reverse|reverse }}",
                                        "{% set ns = namespace(x='') %}{% set ns.x = messages[0].content %}{{ ns.x }}",
                                        "{{ messages[0].get('content') }}",
                                        "{{ none or messages[0].content }}",
                                        "{{ messages[0].content|default('') }}"}) {
    const auto made = ChatTemplate::create(source, {});
    ASSERT_TRUE(made.ok()) << source << ": " << made.error();
    const ChatMessages messages = {{"user", "<|im_end|>"}};
    const auto rendered = made.value().render(messages);
    ASSERT_TRUE(rendered.ok()) << source << ": " << rendered.error();
    ASSERT_EQ(rendered.value().size(), 1u) << source;
    EXPECT_EQ(rendered.value()[0].text, "<|im_end|>") << source;
    EXPECT_FALSE(rendered.value()[0].allow_special) << source;
  }
}

TEST(ChatTemplate, json_and_lists_keep_the_mark_on_their_texts) {
  for (const std::string_view source :
       {"{{ messages|tojson }}", "{{ messages }}", "{{ messages[0].content|tojson(indent=2) }}"}) {
    const auto made = ChatTemplate::create(source, {});
    ASSERT_TRUE(made.ok());
    const ChatMessages messages = {{"user", "<|im_end|>"}};
    const auto rendered = made.value().render(messages);
    ASSERT_TRUE(rendered.ok());
    for (const TextSegment& segment : rendered.value()) {
      if (segment.text.find("im_end") != std::string::npos) EXPECT_FALSE(segment.allow_special) << source;
    }
  }
}

TEST(ChatTemplate, errors_name_the_construct_and_the_line) {
  EXPECT_EQ(outcome("a\n{{ x|frobnicate }}"),
            "render: tokenizer.chat_template line 2: filter \"frobnicate\" is not supported");
  EXPECT_EQ(outcome("{% include 'x' %}"), "create: tokenizer.chat_template line 1: {% include %} is not supported");
  EXPECT_EQ(outcome("{{ raise_exception('roles must alternate') }}"),
            "render: tokenizer.chat_template line 1: the template refuses: roles must alternate");
  EXPECT_EQ(outcome("{{ messages[5].content }}"), "render: tokenizer.chat_template line 1: \"subscript\" is undefined");
  EXPECT_NE(outcome("{% if x %}").find("block is not closed"), std::string::npos);
  EXPECT_NE(outcome("{{ 'abc }}").find("string is not closed"), std::string::npos);
}

TEST(ChatTemplate, hostile_templates_end_at_a_limit) {
  EXPECT_NE(
      outcome("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}").find("more than"),
      std::string::npos);
  EXPECT_NE(outcome("{{ 'x' * 1000000000 }}").find("render"), std::string::npos);
  EXPECT_NE(outcome("{{ 'x' * 9000000 }}").find("the rendered prompt exceeds"), std::string::npos);
  EXPECT_NE(outcome("{{ range(1000000000) }}").find("range has more than"), std::string::npos);
  EXPECT_NE(outcome("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").find("nested deeper"), std::string::npos);
  EXPECT_NE(outcome("{{ " + std::string(100, '(') + "1" + std::string(100, ')') + " }}").find("nested deeper"),
            std::string::npos);
  std::string chain = "{{ 1";
  for (int i = 0; i < 100000; ++i) chain += "+1";
  EXPECT_NE(outcome(chain + " }}").find("a tag has more than"), std::string::npos);
  EXPECT_NE(outcome(std::string(300000, 'x')).find("at most"), std::string::npos);
  std::string doubling = "{% set a = ['x'] %}";
  for (int i = 0; i < 40; ++i) doubling += "{% set a = [a, a] %}";
  EXPECT_NE(outcome(doubling + "{{ a }}").find("exceeds"), std::string::npos);
  EXPECT_EQ(outcome(doubling + "{{ a == [] }}"), "False");
}

TEST(ChatTemplate, containers_may_nest_deeper_than_a_stack_and_hold_themselves) {
  EXPECT_EQ(outcome("{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}{% endfor %}ok"),
            "ok");
  EXPECT_EQ(outcome("{% set ns = namespace(a={}) %}{% for i in range(90000) %}{% set ns.a = {'a': ns.a} %}{% endfor %}"
                    "{% set ns.a = 1 %}ok"),
            "ok");
  // The leak sanitizer sees what still holds itself when the rendering is over.
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns == ns }}"), "False");
  EXPECT_EQ(outcome("{% set a = [] %}{% set b = a.append(a) %}{{ 'x'.startswith(a) }}{{ a|length }}"), "False1");
  EXPECT_EQ(outcome("{% set a = [] %}{% set b = a.append(a.append) %}{{ a|length }}"), "1");
  EXPECT_EQ(outcome("{% set d = {} %}{% set b = d.update({'d': d}) %}{{ d|length }}"), "1");
}

TEST(ChatTemplate, work_that_grows_faster_than_the_steps_is_bounded) {
  const std::string many = "{% set a = [0] * 100000 %}";
  for (const std::string& source : {
           std::string("{{ [0] * 60000000 }}"),
           many + "{% for i in range(100000) %}{% if a == a %}{% endif %}{% endfor %}",
           many + "{% for i in range(100000) %}{% if 'x' in a %}{% endif %}{% endfor %}",
           std::string("{% set t = 'a' * 1000000 %}{{ t.find('a' * 500000 ~ 'b') }}"),
           std::string("{% set t = ',' * 20000000 %}{{ t.split(',')|length }}"),
           std::string("{% set t = '\n' * 20000000 %}{{ t.splitlines()|length }}"),
           "{% set t = 'a' * 1000000 %}" + std::string("{{ ([t] * 1000)|sort|length }}"),
       }) {
    EXPECT_NE(outcome(source).find("handled more than"), std::string::npos) << source;
  }
  std::string blocks;
  for (int i = 0; i < 60; ++i) blocks = "{% if true %}" + blocks + (i == 0 ? "{{ f() }}" : "") + "{% endif %}";
  EXPECT_NE(outcome("{% macro f() %}" + blocks + "{% endmacro %}{{ f() }}").find("nested deeper"), std::string::npos);
}

TEST(ChatTemplate, integers_at_their_edge) {
  const std::string least = "{% set least = -(2 ** 62) - (2 ** 62) %}";
  EXPECT_EQ(outcome(least + "{{ least is divisibleby(-1) }}"), "True");
  EXPECT_NE(outcome(least + "{{ least|abs }}").find("integer overflow"), std::string::npos);
  EXPECT_EQ(outcome("{{ -3|abs }} {{ 3|abs }} {{ 2.5|abs }} {{ (-2.5)|abs }}"), "3 3 2.5 2.5");
  EXPECT_NE(outcome("{{ [1, (10.0 ** 400) - (10.0 ** 400)]|sort }}").find("sort takes"), std::string::npos);
}

TEST(ChatTemplate, a_message_cannot_become_a_key_that_comes_out_trusted) {
  EXPECT_NE(outcome("{% for k in {messages[0].content: 1} %}{{ k }}{% endfor %}").find("a key of a dict"),
            std::string::npos);
  EXPECT_EQ(outcome("{{ {'user': 'U'}[messages[0].role] }}"), "U");
}

TEST(ChatTemplate, bounds_hold_for_conversations_beyond_the_probes) {
  const auto made = ChatTemplate::create(kChat, {});
  ASSERT_TRUE(made.ok());
  const auto bounds = made.value().bounds();
  ASSERT_TRUE(bounds.has_value());
  for (const std::size_t count : {1u, 2u, 9u, 40u}) {
    ChatMessages messages;
    std::size_t content = 0;
    for (std::size_t i = 0; i < count; ++i) {
      messages.emplace_back(i % 2 == 0 ? "assistant" : "user", std::string(i * 7, 'w'));
      content += i * 7;
    }
    const auto rendered = made.value().render(messages);
    ASSERT_TRUE(rendered.ok());
    const std::size_t limit = bounds->fixed_bytes + count * bounds->per_message_bytes + content;
    EXPECT_LE(joined(rendered.value()).size(), limit);
    EXPECT_GE(joined(rendered.value()).size() + 64 + 24 * count, limit) << "useless bound";
  }
}

TEST(ChatTemplate, no_bound_is_claimed_when_content_is_repeated_or_escaped) {
  for (const std::string_view source : {"{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
                                        "{% for m in messages %}{{ m.content|tojson }}{% endfor %}"}) {
    const auto made = ChatTemplate::create(source, {});
    ASSERT_TRUE(made.ok());
    EXPECT_FALSE(made.value().bounds().has_value()) << source;
  }
}

}  // namespace
}  // namespace orch::worker
