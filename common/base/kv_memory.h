// What a replica says of its KV memory. Pages that are only kept for the prefixes in them count as free.
#pragma once

#include <compare>
#include <cstdint>

namespace orch {

struct KvMemory {
  std::uint32_t page_tokens = 0;
  std::uint64_t pages_total = 0;
  std::uint64_t pages_used = 0;

  // An engine without pages of its own, or before its first report, tells nothing: then nothing is judged by it.
  bool told() const { return page_tokens > 0 && pages_total > 0; }
  std::uint64_t tokens_total() const { return pages_total * page_tokens; }
  std::uint64_t pages_for(std::uint64_t tokens) const {
    return page_tokens == 0 ? 0 : tokens / page_tokens + (tokens % page_tokens != 0 ? 1 : 0);
  }
  auto operator<=>(const KvMemory&) const = default;
};

}  // namespace orch
