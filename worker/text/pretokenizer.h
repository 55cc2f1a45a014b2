// Cuts text into the words that byte-pair merges never cross. Hand-written over the category table: the patterns need
// look-ahead, and PCRE2 is only the oracle in the test.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace orch::worker {

// `tokenizer.ggml.pre` of the model file.
enum class PreTokenizer : std::uint8_t {
  gpt2,    // "gpt-2"
  smollm,  // "smollm": every number code point stands alone, then the GPT-2 pattern on what lies between
};

// nullopt: a name we have no splitter for; the caller refuses the model by that name.
std::optional<PreTokenizer> pre_tokenizer_by_name(std::string_view name);

// The words in order; together they are exactly `text`. A byte that is no UTF-8 counts as one code point of class
// other. GPT-2 pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::vector<std::string_view> split_words(PreTokenizer kind, std::string_view text);

}  // namespace orch::worker
