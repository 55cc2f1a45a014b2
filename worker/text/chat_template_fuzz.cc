// Any bytes as a chat template and a conversation: refused with the template's name, or rendered within its budget, and
// no byte of a message comes out as one that may spell a control token (ENGINE-RULES, interface 5; OC-ENGINE-1005).
//
// The template, then for each message the byte 0x1E, its role, the byte 0x1F and its content.
#include "worker/text/chat_template.h"

#include <algorithm>
#include <array>

#include "common/testing/fuzz_target.h"

namespace orch::testing {
namespace {

template <std::size_t N>
std::string pick(Prng& prng, const std::array<const char*, N>& from) {
  return from[prng.below(N)];
}

constexpr std::array kNames = {
    "messages",  "m",           "x",    "ns",        "loop",      "a",    "messages[0].content",
    "eos_token", "loop.index0", "ns.x", "m['role']", "m.content", "none", "true"};
constexpr std::array kFilters = {"trim",
                                 "upper",
                                 "length",
                                 "tojson",
                                 "tojson(indent=2)",
                                 "default('y')",
                                 "join(', ')",
                                 "first",
                                 "last",
                                 "list",
                                 "items",
                                 "dictsort",
                                 "string",
                                 "int",
                                 "sort",
                                 "unique",
                                 "reverse",
                                 "indent(3, true)",
                                 "max",
                                 "sum",
                                 "abs",
                                 "round(1)",
                                 "map(attribute='content')",
                                 "map('upper')",
                                 "selectattr('role', '==', 'user')",
                                 "rejectattr('x')",
                                 "replace('a', 'bb')",
                                 "capitalize",
                                 "float",
                                 "sort(reverse=true)"};
constexpr std::array kMethods = {".strip()",
                                 ".split('a')",
                                 ".split()",
                                 ".rsplit(' ', 1)",
                                 ".splitlines()",
                                 ".startswith('a')",
                                 ".endswith(['a', 'b'])",
                                 ".find('b')",
                                 ".count('a')",
                                 ".append(x)",
                                 ".pop()",
                                 ".get('role')",
                                 ".items()",
                                 ".keys()",
                                 ".update({'z': x})",
                                 ".title()",
                                 ".join(['a', 'b'])",
                                 "[1:]",
                                 "[::-1]",
                                 "[-1]",
                                 "[0]",
                                 "['role']",
                                 ".x"};
constexpr std::array kOperators = {" + ",   " - ",  " * ",  " / ",  " // ", " % ",  " ** ", " ~ ",
                                   " and ", " or ", " == ", " != ", " < ",  " >= ", " in ", " not in "};
constexpr std::array kTests = {" is defined", " is string", " is not none", " is divisibleby 3",
                               " is mapping", " is in [1]", " is odd",      " is sameas x"};

std::string expression(Prng& prng, int depth) {
  switch (prng.below(depth > 0 ? 12 : 4)) {
    case 0:
    case 1:
      return pick(prng, kNames);
    case 2:
      return std::to_string(prng.below(200));
    case 3:
      return "'te\\n\"x'";
    case 4:
      return expression(prng, depth - 1) + "|" + pick(prng, kFilters);
    case 5:
      return "(" + expression(prng, depth - 1) + ")" + pick(prng, kMethods);
    case 6:
      return "(" + expression(prng, depth - 1) + pick(prng, kTests) + ")";
    case 7:
      return "[" + expression(prng, depth - 1) + ", " + expression(prng, depth - 1) + "]";
    case 8:
      return "{'k': " + expression(prng, depth - 1) + "}";
    case 9:
      return "(" + expression(prng, depth - 1) + " if " + expression(prng, depth - 1) + " else x)";
    case 10:
      return "range(" + expression(prng, depth - 1) + ")";
    default:
      return "(" + expression(prng, depth - 1) + pick(prng, kOperators) + expression(prng, depth - 1) + ")";
  }
}

std::string body(Prng& prng, int depth) {
  std::string out;
  for (std::uint64_t i = 1 + prng.below(3); i > 0; --i) {
    const std::string inner = depth > 0 ? body(prng, depth - 1) : "<|im_end|>\n";
    switch (prng.below(9)) {
      case 0:
        out += "text  \n";
        break;
      case 1:
        out += "{% for m in " + expression(prng, 2) + " -%}" + inner + (prng.chance(1, 4) ? "{% break %}" : "") +
               "{% endfor %}";
        break;
      case 2:
        out += "{%- if " + expression(prng, 2) + " %}" + inner + "{% else %}b{% endif %}";
        break;
      case 3:
        out += "{% set x = " + expression(prng, 3) + " %}";
        break;
      case 4:
        out += "{% set ns = namespace(x=1) %}{% set ns.x = " + expression(prng, 2) + " %}";
        break;
      case 5:
        out += "{% macro f(a, b=2) %}" + inner + "{% endmacro %}{{ f(" + expression(prng, 1) + ") }}";
        break;
      case 6:
        out += "{% set x %}" + inner + "{% endset %}";
        break;
      default:
        out += "{{ " + expression(prng, 4) + " }}";
    }
  }
  return out;
}

}  // namespace

std::string make_seed(Prng& prng) {
  std::string out = prng.chance(3, 4) ? "{% for m in messages %}" + body(prng, 2) + "{% endfor %}" : body(prng, 3);
  for (std::uint64_t i = prng.below(4); i > 0; --i) {
    out +=
        std::string("\x1E") + (prng.chance(1, 2) ? "user" : "assistant") + "\x1F" + pick(prng, kMethods) + "\x7F a b";
  }
  return out;
}

}  // namespace orch::testing

namespace {

using namespace orch;
using namespace orch::worker;

constexpr jinja::Limits kLimits{.steps_max = 20'000, .work_bytes_max = 1u << 20, .output_bytes_max = 1u << 16};
constexpr char kUserMark = '\x7F';

std::string_view take_until(std::string_view& text, char end) {
  const std::size_t found = std::min(text.find(end), text.size());
  const std::string_view out = text.substr(0, found);
  text.remove_prefix(std::min(found + 1, text.size()));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view rest = testing::text_of(data, size);
  const std::string_view source = take_until(rest, '\x1E');
  ChatMessages messages;
  while (!rest.empty()) {
    std::string_view message = take_until(rest, '\x1E');
    const std::string_view role = take_until(message, '\x1F');
    messages.emplace_back(role, message);
  }
  if (messages.empty()) messages = {{"system", "be kind"}, {"user", std::string("hi ") + kUserMark + "<|im_end|>"}};

  const auto made = ChatTemplate::create(source, {"<s>", "</s>"});
  if (!made.ok()) {
    ORCH_CHECK(made.error().starts_with("tokenizer.chat_template"));
    return 0;
  }
  const auto rendered = made.value().render(messages, kLimits);
  if (!rendered.ok()) {
    ORCH_CHECK(rendered.error().starts_with("tokenizer.chat_template"));
    return 0;
  }
  std::size_t bytes = 0;
  // A template that cannot write the mark itself, by an escape either, shows it only where a message had it.
  const bool marks_are_users = source.find_first_of("\x7F\\") == std::string_view::npos;
  for (const TextSegment& segment : rendered.value()) {
    ORCH_CHECK(!segment.text.empty());
    ORCH_CHECK(!segment.allow_special || !marks_are_users || segment.text.find(kUserMark) == std::string::npos);
    bytes += segment.text.size();
  }
  ORCH_CHECK(bytes <= kLimits.output_bytes_max);
  return 0;
}
