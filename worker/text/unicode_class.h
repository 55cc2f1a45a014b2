// The four classes of code points that pre-tokenizers tell apart.
#pragma once

#include <cstdint>

namespace orch::worker {

enum class UnicodeClass : std::uint8_t { other, letter, number, space };

struct UnicodeRange {
  std::uint32_t first;
  UnicodeClass kind;
};

// Values above U+10FFFF are `other`.
UnicodeClass unicode_class(std::uint32_t code_point);

}  // namespace orch::worker
