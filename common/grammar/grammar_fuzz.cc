// Any bytes as a regular expression, a grammar or a schema: refused with a place, or an automaton none of whose states
// is a dead end and whose shortest end is an end (OC-GRAMMAR-1030, OC-GRAMMAR-1031). The first byte says which.
#include <string>

#include "common/grammar/automaton.h"
#include "common/grammar/compile.h"
#include "common/grammar/limits.h"
#include "common/testing/fuzz_target.h"

namespace orch::testing {
namespace {

std::string pick(Prng& prng, std::initializer_list<std::string_view> from) {
  return std::string(*(from.begin() + static_cast<std::ptrdiff_t>(prng.below(from.size()))));
}

std::string regex(Prng& prng, int depth) {
  std::string out;
  for (std::uint64_t i = prng.below(4); i > 0; --i) {
    if (depth > 0 && prng.chance(1, 3)) {
      out += "(" + regex(prng, depth - 1) + "|" + regex(prng, depth - 1) + ")";
    } else {
      out += pick(prng, {"a", ".", "\\d", "[a-z]", "[^\"\\\\]", "\\u00e9", "\xC3\xA9", "\\.", "\\S"});
    }
    out += pick(prng, {"", "", "", "*", "+", "?", "{2,3}", "{0,40}"});
  }
  return out;
}

std::string grammar(Prng& prng) {
  std::string out = "root ::= a | \"(\" root \")\" b*\n";
  for (const char* name : {"a", "b"}) {
    out += std::string(name) + " ::= ";
    for (std::uint64_t i = prng.below(4); i > 0; --i) {
      out += pick(prng, {"[0-9] ", "\"x\" ", "a ", "b ", "root ", "| ", "(\"y\" | [^a]) ", "\"\\n\"? ", ".{1,3} "});
    }
    out += "\n";
  }
  return out;
}

std::string schema(Prng& prng, int depth) {
  switch (prng.below(depth > 0 ? 10 : 6)) {
    case 0:
      return R"({"type":"string","maxLength":)" + std::to_string(prng.below(20)) + "}";
    case 1:
      return R"({"type":"integer","minimum":)" + std::to_string(prng.between(-300, 300)) + R"(,"maximum":301})";
    case 2:
      return R"({"enum":["a","ab",1,null,"\u00e9"]})";
    case 3:
      return R"({"type":["number","null"]})";
    case 4:
      return R"({"$ref":"#"})";
    case 5:
      return R"({"type":"string","pattern":"a+b?"})";
    case 6:
      return R"({"type":"array","items":)" + schema(prng, depth - 1) + R"(,"minItems":)" +
             std::to_string(prng.below(4)) + "}";
    case 7:
      return R"({"anyOf":[)" + schema(prng, depth - 1) + "," + schema(prng, depth - 1) + "]}";
    default:
      return R"({"type":"object","properties":{"a":)" + schema(prng, depth - 1) + R"(,"b":)" + schema(prng, depth - 1) +
             R"(},"required":["a"],"additionalProperties":)" + pick(prng, {"true", "false", "{}"}) + "}";
  }
}

}  // namespace

std::string make_seed(Prng& prng) {
  switch (prng.below(3)) {
    case 0:
      return "r" + regex(prng, 3);
    case 1:
      return "g" + grammar(prng);
    default:
      return "s" + schema(prng, 4);
  }
}

}  // namespace orch::testing

namespace {

using namespace orch::grammar;

// A way through the automaton, then to the end by the shortest distance.
void walk(Automaton& automaton, std::uint64_t seed) {
  orch::Prng prng(seed);
  auto state = automaton.start();
  ORCH_CHECK(state != Automaton::kDead);
  for (int i = 0; i < 40 && automaton.continues(state); ++i) {
    const auto first = static_cast<int>(prng.below(256));
    auto next = Automaton::kDead;
    for (int k = 0; k < 256 && next == Automaton::kDead; ++k) {
      next = automaton.step(state, static_cast<std::uint8_t>((first + k) & 255));
    }
    ORCH_CHECK(next != Automaton::kDead);
    state = next;
  }
  ORCH_CHECK(automaton.accepts(state) == (automaton.bytes_to_end(state) == 0));
  ORCH_CHECK(automaton.accepts(state) || automaton.continues(state));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = orch::testing::text_of(data, size);
  const ConstraintKind kind = text[0] == 'r'   ? ConstraintKind::regex
                              : text[0] == 'g' ? ConstraintKind::gbnf
                                               : ConstraintKind::json_schema;
  auto network = compile(kind, text.substr(1));
  if (!network.ok()) {
    ORCH_CHECK(!network.error().message.empty());
    return 0;
  }
  ORCH_CHECK(network->states().size() <= kStatesMax && network->rules().size() <= kRulesMax);
  ByteSet every;
  every.set();
  auto automaton = Automaton::create(network.value(), every);
  ORCH_CHECK(automaton.ok());
  walk(automaton.value(), size);
  return 0;
}
