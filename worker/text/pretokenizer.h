// Cuts text into the words that byte-pair merges never cross. Hand-written over the category table: the patterns need
// look-ahead, and PCRE2 is only the oracle in the test.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace orch::worker {

// `tokenizer.ggml.pre` of the model file.
enum class PreTokenizer : std::uint8_t {
  gpt2,    // "gpt-2"
  smollm,  // "smollm": every number code point stands alone, then the GPT-2 pattern on what lies between
  llama3,  // "llama-bpe": numbers by up to three; a word that is a token is never merged
  qwen2,   // "qwen2": as llama3, but every number stands alone
};

// nullopt: a name we have no splitter for; the caller refuses the model by that name.
std::optional<PreTokenizer> pre_tokenizer_by_name(std::string_view name);
std::string supported_pre_tokenizers();  // their names, for refusals

// The words in order; together they are exactly `text`. A byte that is no UTF-8 counts as one code point of class
// other. GPT-2 pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// Llama 3 pattern: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
// \s*[\r\n]+|\s+(?!\S)|\s+, in which only ASCII letters have a case.
std::vector<std::string_view> split_words(PreTokenizer kind, std::string_view text);

}  // namespace orch::worker
