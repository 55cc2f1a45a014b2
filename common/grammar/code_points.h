// Sets of code points as sorted ranges, and their way into a network as UTF-8 or as it stands in a JSON string.
// Surrogates (U+D800 to U+DFFF) are in no set: nothing can write them in UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/grammar/network.h"

namespace orch::grammar {

inline constexpr std::uint32_t kCodePointMax = 0x10FFFF;

struct CodePointRange {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  auto operator<=>(const CodePointRange&) const = default;
};

class CodePointSet {
 public:
  CodePointSet() = default;
  CodePointSet(std::initializer_list<CodePointRange> ranges);
  explicit CodePointSet(std::vector<CodePointRange> ranges);

  CodePointSet complement() const;
  CodePointSet minus(const CodePointSet& other) const;
  bool contains(std::uint32_t code_point) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<CodePointRange>& ranges() const { return ranges_; }
  auto operator<=>(const CodePointSet&) const = default;

 private:
  void normalize();
  std::vector<CodePointRange> ranges_;  // sorted, apart from each other, without surrogates
};

// How a code point is written.
enum class Spelling : std::uint8_t {
  plain,        // UTF-8
  json_string,  // UTF-8, or the shortest escape where JSON asks for one: \" \\ \n ... \u001f
};

// One code point of the set.
void add_code_point(Network& network, StateId from, const CodePointSet& set, Spelling spelling, StateId to);
// The code points that stand for themselves between the quotes of a JSON string.
const CodePointSet& json_unescaped();

std::string spelled(std::uint32_t code_point, Spelling spelling);

// The code point at `position` of valid UTF-8, which moves behind it; nullopt: not valid UTF-8.
std::optional<std::uint32_t> next_code_point(std::string_view text, std::size_t& position);

}  // namespace orch::grammar
