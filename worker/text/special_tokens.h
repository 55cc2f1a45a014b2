// The special tokens of a vocabulary, and where a text names them. Immutable once the tokenizer is made; any thread.
//
// The order is llama.cpp's: the longest first, by id among equals, from left to right, over what none before has taken.
// A cut costs a lookup per length of special tokens and place where one may begin, however many there are
// (OC-ENGINE-1025).
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace orch::worker {

// A stretch of a text while special tokens are cut out of it.
struct TextFragment {
  std::size_t start = 0;
  std::size_t bytes = 0;
  std::optional<std::uint32_t> token;
};

class SpecialTokens {
 public:
  // In the order of ids. `needs_permission`: a control token; others are cut out everywhere.
  void add(const std::string& text, std::uint32_t id, bool needs_permission);

  // The fragments are all of the text, in order. `permitted[i]`: byte i may be part of a control token.
  std::vector<TextFragment> cut(std::string_view text, const std::vector<bool>& permitted) const;

 private:
  struct Entry {  // the lowest id of its kind
    std::optional<std::uint32_t> control;
    std::optional<std::uint32_t> free;
  };
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Entries = std::unordered_map<std::string, Entry, TextHash, std::equal_to<>>;
  struct Match {
    std::uint32_t id = 0;
    std::size_t start = 0;
  };

  std::vector<std::size_t> places(std::string_view text) const;
  static std::optional<std::uint32_t> token_of(const Entry& entry, const std::vector<bool>& permitted,
                                               std::size_t start, std::size_t bytes);

  std::map<std::size_t, Entries, std::greater<>> by_length_;
  std::bitset<256> single_;                         // bytes that are one
  std::bitset<std::size_t{256} * 256> beginnings_;  // the first two bytes of the longer ones
};

}  // namespace orch::worker
