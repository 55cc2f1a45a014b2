#include "worker/grammar/vocabulary_trie.h"

#include <algorithm>
#include <string_view>

namespace orch::worker {

namespace {

// A longer token could not be told by its depth; none of a real vocabulary is near it.
constexpr std::size_t kTokenBytesMax = 4096;

std::size_t shared_bytes(std::string_view a, std::string_view b) {
  const auto differs = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<std::size_t>(differs.first - a.begin());
}

}  // namespace

VocabularyTrie::VocabularyTrie(const Tokenizer& tokenizer) {
  bytes_.resize(tokenizer.size());
  std::vector<TokenId> order;
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    if (tokenizer.ends_generation(id)) {
      end_tokens_.push_back(id);
      continue;
    }
    const std::string& bytes = tokenizer.bytes_of(id);
    if (tokenizer.is_control(id) || bytes.empty() || bytes.size() > kTokenBytesMax) continue;
    bytes_[id] = bytes;
    order.push_back(id);
    if (bytes.size() == 1) single_bytes_.set(static_cast<std::uint8_t>(bytes[0]));
    depth_max_ = std::max(depth_max_, bytes.size());
  }
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    const int difference = bytes_[a].compare(bytes_[b]);
    return difference != 0 ? difference < 0 : a < b;
  });
  // In byte order each token shares a path with the one before it and adds the rest.
  std::vector<std::uint32_t> path;
  std::string_view before;
  const auto close = [&](std::size_t depth) {
    for (; path.size() > depth; path.pop_back()) nodes_[path.back()].behind = static_cast<std::uint32_t>(nodes_.size());
  };
  for (const TokenId id : order) {
    const std::string_view bytes = bytes_[id];
    const std::size_t shared = shared_bytes(before, bytes);
    close(shared);
    for (std::size_t depth = shared; depth < bytes.size(); ++depth) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back({0, static_cast<std::uint32_t>(tokens_.size()), static_cast<std::uint16_t>(depth),
                        static_cast<std::uint8_t>(bytes[depth])});
    }
    tokens_.push_back(id);
    before = bytes;
  }
  close(0);
  nodes_.push_back({0, static_cast<std::uint32_t>(tokens_.size()), 0, 0});
}

}  // namespace orch::worker
