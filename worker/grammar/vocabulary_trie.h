// The tokens of a vocabulary by their bytes, as a trie in preorder: one walk over it with an automaton finds every
// token that may follow. Immutable; safe to use from any thread.
//
// Tokens that write nothing (control tokens) are not in it; those that end a generation are listed apart. A token may
// hold any bytes, a part of a code point too: the automaton reads bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/grammar/network.h"
#include "worker/text/tokenizer.h"

namespace orch::worker {

class VocabularyTrie {
 public:
  struct Node {
    std::uint32_t behind = 0;        // index of the first node that is not below this one
    std::uint32_t tokens_begin = 0;  // in tokens(), of those that end here; up to the next node's
    std::uint16_t depth = 0;         // bytes before this one
    std::uint8_t byte = 0;
  };

  explicit VocabularyTrie(const Tokenizer& tokenizer);

  // One more than there are nodes: the last one closes the lists.
  const std::vector<Node>& nodes() const { return nodes_; }
  std::size_t size() const { return nodes_.size() - 1; }
  const std::vector<TokenId>& tokens() const { return tokens_; }
  const std::vector<TokenId>& end_tokens() const { return end_tokens_; }
  // Bytes that a token of their own writes: with these alone every text over them can be written.
  const grammar::ByteSet& single_bytes() const { return single_bytes_; }
  std::size_t depth_max() const { return depth_max_; }
  std::uint32_t vocabulary() const { return static_cast<std::uint32_t>(bytes_.size()); }
  // Empty: the token writes nothing.
  const std::string& bytes_of(TokenId id) const { return bytes_[id]; }

 private:
  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;
  std::vector<TokenId> end_tokens_;
  std::vector<std::string> bytes_;
  grammar::ByteSet single_bytes_;
  std::size_t depth_max_ = 0;
};

}  // namespace orch::worker
