#include "worker/text/unicode_class.h"

#include <algorithm>

#include "worker/text/unicode_categories.h"

namespace orch::worker {

UnicodeClass unicode_class(std::uint32_t code_point) {
  if (code_point > 0x10FFFF) return UnicodeClass::other;
  const auto after =
      std::upper_bound(unicode_table::kRanges.begin(), unicode_table::kRanges.end(), code_point,
                       [](std::uint32_t value, const UnicodeRange& range) { return value < range.first; });
  return (after - 1)->kind;
}

}  // namespace orch::worker
