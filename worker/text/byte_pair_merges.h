// Byte-pair merging of one word by the ranks of a merge list (lower rank first, then leftmost). Immutable after create;
// safe to read from any thread. Knows symbols only: which of them are tokens is the tokenizer's matter.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/result.h"

namespace orch::worker {

using SymbolId = std::uint32_t;

class BytePairMerges {
 public:
  // `merges`: "left right", rank = index. Error: names the broken entry.
  static Result<BytePairMerges, std::string> create(const std::vector<std::string>& merges);

  // Appends the symbols the word ends in.
  void apply(std::string_view word, std::vector<SymbolId>& out) const;

  std::size_t symbol_count() const { return texts_.size(); }
  const std::string& text_of(SymbolId symbol) const { return texts_[symbol]; }

 private:
  struct Merge {
    std::uint32_t rank = 0;
    SymbolId result = 0;
  };
  SymbolId intern(const std::string& text);

  std::vector<std::string> texts_;
  std::unordered_map<std::string, SymbolId> ids_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // (left << 32) | right; looked up, never iterated
  std::array<SymbolId, 256> byte_symbols_{};
};

}  // namespace orch::worker
