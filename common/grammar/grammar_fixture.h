// Whole texts against a constraint, for tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "common/grammar/automaton.h"
#include "common/grammar/compile.h"

namespace orch::grammar::testing {

inline ByteSet every_byte() {
  ByteSet out;
  out.set();
  return out;
}

class Judge {
 public:
  Judge(ConstraintKind kind, std::string_view text) {
    auto network = compile(kind, text);
    if (!network.ok()) {
      refusal = network.error();
      return;
    }
    auto made = Automaton::create(network.value(), every_byte());
    EXPECT_TRUE(made.ok()) << made.error().message;
    automaton.emplace(std::move(made).value());
  }

  bool accepts(std::string_view text) {
    EXPECT_TRUE(automaton.has_value()) << refusal.where << ": " << refusal.message;
    return automaton && automaton->accepts(automaton->read(automaton->start(), text));
  }
  // Something may follow, or the text may end here.
  bool lives(std::string_view text) {
    return automaton && automaton->read(automaton->start(), text) != Automaton::kDead;
  }

  std::optional<Automaton> automaton;
  GrammarError refusal;
};

inline Judge schema(std::string_view text) { return Judge(ConstraintKind::json_schema, text); }
inline Judge regex(std::string_view text) { return Judge(ConstraintKind::regex, text); }
inline Judge gbnf(std::string_view text) { return Judge(ConstraintKind::gbnf, text); }

}  // namespace orch::grammar::testing
