#include <gtest/gtest.h>

#include <array>

#include "common/base/prng.h"
#include "common/grammar/grammar_fixture.h"

namespace orch::grammar {
namespace {

using testing::every_byte;
using testing::gbnf;
using testing::schema;

constexpr std::string_view kTree = R"({"type":"object","properties":{"name":{"type":"string","maxLength":5},)"
                                   R"("kids":{"type":"array","items":{"$ref":"#"}}},)"
                                   R"("required":["name"]})";

TEST(Automaton, OC_GRAMMAR_1022_forgetting_changes_no_answer) {
  auto judge = schema(kTree);
  Automaton& automaton = *judge.automaton;
  const std::string text = R"({"name": "x", "kids": [{"name":"\u00e9"}, {"name":"","kids":[]}]})";
  std::vector<bool> accepted;
  std::vector<std::uint32_t> ends;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    const auto state = automaton.read(automaton.start(), text.substr(0, i));
    accepted.push_back(automaton.accepts(state));
    ends.push_back(automaton.bytes_to_end(state));
  }
  EXPECT_TRUE(accepted.back());
  for (std::size_t i = text.size() + 1; i-- > 0;) {
    automaton.forget();
    const auto state = automaton.read(automaton.start(), text.substr(0, i));
    EXPECT_EQ(automaton.accepts(state), accepted[i]) << i;
    EXPECT_EQ(automaton.bytes_to_end(state), ends[i]) << i;
  }
}

// What is kept goes on as before, under its new name.
TEST(Automaton, OC_GRAMMAR_1022_keeping_some_states_changes_no_answer) {
  auto judge = schema(kTree);
  auto witness = schema(kTree);
  Automaton& automaton = *judge.automaton;
  Automaton& right = *witness.automaton;
  Prng prng(5);
  for (int round = 0; round < 100; ++round) {
    std::array<Automaton::State, 2> states{automaton.start(), automaton.start()};
    std::array<Automaton::State, 2> wanted{right.start(), right.start()};
    for (int i = 0; i < 60; ++i) {
      const std::size_t which = prng.below(2);
      std::vector<std::uint8_t> bytes;
      for (int byte = 0; byte < 256; ++byte) {
        const auto each = static_cast<std::uint8_t>(byte);
        const auto next = right.step_counted(wanted[which], each);
        const auto got = automaton.step_counted(states[which], each);
        ASSERT_EQ(got.cost, next.cost);
        ASSERT_EQ(got.state == Automaton::kDead, next.state == Automaton::kDead);
        ASSERT_EQ(automaton.accepts(got.state), right.accepts(next.state));
        ASSERT_EQ(automaton.bytes_to_end(got.state), right.bytes_to_end(next.state));
        if (next.state != Automaton::kDead) bytes.push_back(each);
      }
      if (bytes.empty()) break;
      const std::uint8_t byte = bytes[prng.below(bytes.size())];
      states[which] = automaton.step(states[which], byte);
      wanted[which] = right.step(wanted[which], byte);
      if (prng.chance(1, 3)) {
        automaton.keep_only(states);
        EXPECT_LE(automaton.states_kept(), 3U);
      }
    }
  }
}

// Whatever is written, the bytes that shorten the way to the end lead there in as many steps.
TEST(Automaton, OC_GRAMMAR_1024_the_shortest_end_is_where_it_says) {
  auto judge = schema(kTree);
  Automaton& automaton = *judge.automaton;
  Prng prng(7);
  for (int round = 0; round < 200; ++round) {
    auto state = automaton.start();
    std::string text;
    const auto options = [&] {
      std::vector<std::uint8_t> out;
      for (int byte = 0; byte < 256; ++byte) {
        if (automaton.step(state, static_cast<std::uint8_t>(byte)) != Automaton::kDead) {
          out.push_back(static_cast<std::uint8_t>(byte));
        }
      }
      return out;
    };
    for (std::uint64_t i = prng.below(80); i > 0; --i) {
      const auto bytes = options();
      if (bytes.empty()) break;
      const std::uint8_t byte = bytes[prng.below(bytes.size())];
      text.push_back(static_cast<char>(byte));
      state = automaton.step(state, byte);
    }
    ASSERT_NE(state, Automaton::kDead);
    for (std::uint32_t left = automaton.bytes_to_end(state); left > 0; --left) {
      bool found = false;
      for (const std::uint8_t byte : options()) {
        const auto next = automaton.step(state, byte);
        if (automaton.bytes_to_end(next) != left - 1) continue;
        state = next;
        text.push_back(static_cast<char>(byte));
        found = true;
        break;
      }
      ASSERT_TRUE(found) << text;
    }
    EXPECT_TRUE(automaton.accepts(state)) << text;
  }
}

TEST(Automaton, OC_GRAMMAR_1021_leaves_out_what_the_bytes_at_hand_cannot_write) {
  auto network = compile(ConstraintKind::regex,
                         "(\xC3\xA9|a)+|b\xC3\xBC"
                         "c");
  ASSERT_TRUE(network.ok());
  ByteSet ascii;
  for (std::size_t byte = 0; byte < 128; ++byte) ascii.set(byte);
  auto automaton = Automaton::create(network.value(), ascii);
  ASSERT_TRUE(automaton.ok());
  Automaton& made = automaton.value();
  EXPECT_TRUE(made.accepts(made.read(made.start(), "aa")));
  EXPECT_EQ(made.read(made.start(), "b"), Automaton::kDead);  // its text could never end
  EXPECT_EQ(made.read(made.start(), "\xC3"), Automaton::kDead);
  auto only = compile(ConstraintKind::regex, "\xC3\xA9");
  EXPECT_FALSE(Automaton::create(only.value(), ascii).ok());
}

TEST(Automaton, OC_GRAMMAR_1030_many_distinct_states_are_forgotten_in_time) {
  auto judge = gbnf("root ::= [a-z]{8000}");
  Automaton& automaton = *judge.automaton;
  auto state = automaton.start();
  for (int i = 0; i < 8000; ++i) state = automaton.step(state, 'q');
  EXPECT_TRUE(automaton.accepts(state));
  EXPECT_FALSE(automaton.continues(state));
  EXPECT_FALSE(automaton.is_full());
  const auto before = automaton.times_forgotten();
  automaton.forget();
  EXPECT_EQ(automaton.times_forgotten(), before + 1);
  EXPECT_EQ(automaton.states_kept(), 1U);
}

}  // namespace
}  // namespace orch::grammar
