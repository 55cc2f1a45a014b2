// Strict UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF), one code point at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace orch::worker {

enum class Utf8Status : std::uint8_t {
  valid,
  invalid,     // these bytes can never become a code point, whatever follows
  incomplete,  // a proper prefix of a code point ends the input
};

struct Utf8Step {
  Utf8Status status = Utf8Status::invalid;
  std::uint32_t code_point = 0xFFFD;  // U+FFFD unless valid
  std::size_t bytes =
      1;  // consumed; for invalid: the maximal subpart (Unicode 3.9, U+FFFD substitution), for incomplete: the rest
};

// `position` < text.size().
Utf8Step utf8_step(std::string_view text, std::size_t position);

bool is_valid_utf8(std::string_view text);

void append_utf8(std::string& out, std::uint32_t code_point);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace orch::worker
