// A vocabulary for tests of masks: every byte, control tokens, and longer tokens that cross what a grammar tells apart:
// ends of strings, several brackets at once, halves of code points.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/prng.h"
#include "worker/grammar/vocabulary_trie.h"
#include "worker/text/byte_symbols.h"
#include "worker/text/tokenizer.h"

namespace orch::worker::testing {

inline constexpr TokenId kEnd = 0;
inline constexpr TokenId kControl = 1;
inline constexpr TokenId kByteZero = 2;  // token of byte b is kByteZero + b

inline Tokenizer tokenizer_of(const std::vector<std::string>& longer) {
  VocabularyData data;
  data.model = "gpt2";
  data.pre = "smollm";
  data.tokens = {"<|im_end|>", "<|im_start|>"};
  data.types = {3, 3};
  std::set<std::string> seen;
  const auto add = [&](const std::string& bytes) {
    if (!seen.insert(bytes).second) return;
    std::string symbols;
    for (const char byte : bytes) symbols += byte_symbol(static_cast<std::uint8_t>(byte));
    data.tokens.push_back(symbols);
    data.types.push_back(1);
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const std::string& bytes : longer) add(bytes);
  data.eos = kEnd;
  auto made = Tokenizer::create(std::move(data));
  ORCH_CHECK(made.ok());
  return std::move(made).value();
}

// `count` tokens of 2 to 12 bytes cut out of texts that look like documents.
inline std::vector<std::string> pieces_of_documents(std::uint64_t seed, std::size_t count) {
  static const std::vector<std::string> kTexts{
      R"({"name": "Ada", "age": 36, "tags": ["a", "b\n"], "nested": {"x": null, "y": [true, false]}})",
      "{\n  \"value\": -12.5e-3,\n  \"caf\xC3\xA9 \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80\": "
      "\"\\u00e9\\\"\"\n}]}}\"}",
      "- the quick brown fox, 1234567890 (a|b)* [x] \t\\n\\\\ \"\",\"\":\"\",  }, {\"}]}]",
      "2024-02-28T23:59:59Z 255.255.0.1 abcdefABCDEF"};
  Prng prng(seed);
  std::vector<std::string> out;
  while (out.size() < count) {
    const std::string& text = kTexts[prng.below(kTexts.size())];
    const std::size_t size = 2 + prng.below(11);
    out.push_back(text.substr(prng.below(text.size() - size), size));
  }
  return out;
}

inline std::shared_ptr<const VocabularyTrie> trie_of(const std::vector<std::string>& longer) {
  return std::make_shared<const VocabularyTrie>(tokenizer_of(longer));
}

}  // namespace orch::worker::testing
