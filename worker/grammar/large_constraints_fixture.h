// Constraints near the limits of OC-GRAMMAR-1030, for tests and measurements: of many states, of many edges, of many
// readings, and two whose texts have thousands of states that no two texts share.
#pragma once

#include <string>
#include <vector>

#include "common/grammar/constraint.h"

namespace orch::worker::testing {

// Every set is written anew, with the escapes of JSON.
inline std::string string_of_sets(const std::string& name, std::size_t count) {
  std::string pattern = name;
  for (std::size_t i = 0; i < count; ++i) {
    pattern += std::string("[^") + static_cast<char>('A' + i % 26) + static_cast<char>('a' + i / 26 % 26) +
               static_cast<char>('0' + i / 676 % 10) + "]";
  }
  return R"({"type":"string","pattern":"^)" + pattern + R"($"})";
}

inline std::string object_of_numbers(const std::string& name, std::size_t count, const std::string& bounds) {
  std::string properties;
  for (std::size_t i = 0; i < count; ++i) {
    properties += i == 0 ? "\"" : ",\"";
    properties += name + "_" + std::to_string(i) + R"(":{"type":"number",)" + bounds + "}";
  }
  return R"({"type":"object","properties":{)" + properties + "}}";
}

// Those of another number have other texts.
inline std::vector<grammar::Constraint> large_constraints(std::size_t number) {
  using grammar::ConstraintKind;
  const std::string name = std::to_string(number);
  std::string calls = "root ::= a" + name + "\n" + "a" + name + " ::= b{1,40}\nb ::= ";
  for (std::size_t i = 0; i < 900; ++i) {
    calls += i == 0 ? "\"" : " | \"";
    calls += std::to_string(i) + "\" b? [x-z]";
  }
  return {{ConstraintKind::json_schema, object_of_numbers(name, 430, R"("minimum":-1.2345678,"maximum":9.8765432)")},
          {ConstraintKind::json_schema, string_of_sets(name, 400)},
          {ConstraintKind::regex, "n" + name + "([ab]{0,60}[^\"]{0,40}\\u00e9?){0,120}"},
          {ConstraintKind::regex, name + "([a-z]?x?y?z?){0,8000}"},
          {ConstraintKind::gbnf, calls},
          {ConstraintKind::regex, name + "([ab]*a[ab]{16})+"},
          {ConstraintKind::regex, name + "([ab]*a[ab]{13}|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t|u|v)+"}};
}

}  // namespace orch::worker::testing
